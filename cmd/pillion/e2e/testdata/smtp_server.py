# An SMTP server (python3-aiosmtpd) that writes each message, as it came, to a file. argv: port, folder.
import asyncio
import os
import sys

from aiosmtpd.smtp import SMTP


class Keep:
    def __init__(self, folder):
        self.folder = folder
        self.n = 0

    async def handle_DATA(self, server, session, envelope):
        self.n += 1
        path = os.path.join(self.folder, str(self.n))
        with open(path + ".part", "wb") as f:
            f.write(envelope.original_content)
        with open(path + ".rcpt", "w") as f:
            f.write(" ".join([envelope.mail_from] + envelope.rcpt_tos))
        os.rename(path + ".part", path)
        return "250 kept"


async def main():
    keep = Keep(sys.argv[2])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(keep, hostname="mail.example.com"), "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
