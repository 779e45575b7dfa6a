# A WebSocket client (python3-aiohttp) of an echo server. argv: URL. It prints ok, or fails.
import asyncio
import os
import sys

import aiohttp


async def main(url):
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, protocols=["chat"], compress=15, max_msg_size=1 << 24, autoping=False) as ws:
            assert ws.protocol == "chat", ws.protocol
            assert ws.compress, "compression was offered and not agreed on"
            for text in ["", "hello", "grüße ✓ 🐎", "x" * 200_000]:
                await ws.send_str(text)
                got = await ws.receive_str()
                assert got == text, (len(got), len(text))
            for size in [0, 125, 126, 65535, 65536, 1 << 20]:
                data = os.urandom(size)
                await ws.send_bytes(data)
                got = await ws.receive_bytes()
                assert got == data, (len(got), size)
            await ws.ping(b"are you there?")
            pong = await ws.receive()
            assert pong.type == aiohttp.WSMsgType.PONG and pong.data == b"are you there?", pong
            await ws.send_str("close")
            end = await ws.receive()
            assert end.type == aiohttp.WSMsgType.CLOSE and end.data == 4001 and end.extra == "as you wish ✓", end
            assert ws.close_code == 4001, ws.close_code
    print("ok")


asyncio.run(main(sys.argv[1]))
