# A WebSocket server (python3-websockets) that echoes, with compression and a subprotocol. argv: port.
import asyncio
import sys

import websockets


async def echo(ws):
    async for message in ws:
        if message == "close":
            await ws.close(4001, "as you wish ✓")
            return
        await ws.send(message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), subprotocols=["chat"], max_size=1 << 24):
        await asyncio.Future()


asyncio.run(main())
