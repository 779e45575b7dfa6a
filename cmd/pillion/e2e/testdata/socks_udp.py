# A client of SOCKS5's UDP ASSOCIATE (python3-socks). argv: proxy's port, name, port. It prints ok, or fails.
import socket
import sys

import socks

s = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
s.set_proxy(socks.SOCKS5, "127.0.0.1", int(sys.argv[1]), rdns=True)
s.settimeout(1)
for text in [b"hello", b"", b"x" * 1200, b"y" * 30000]:
    for attempt in range(30):
        s.sendto(text, (sys.argv[2], int(sys.argv[3])))
        try:
            got, sender = s.recvfrom(65536)
        except TimeoutError:
            continue
        if got == text:
            assert sender == (sys.argv[2].encode(), int(sys.argv[3])) or sender == (sys.argv[2], int(sys.argv[3])), sender
            break
    else:
        sys.exit(f"no answer to {len(text)} bytes")
print("ok")
