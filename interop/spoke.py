"""A spoke on Python's websockets: prints what happens as JSON lines, for interop_test.go to judge."""
import asyncio
import json
import sys

import websockets


def say(what, value):
    print(json.dumps({"what": what, "value": value}), flush=True)


async def main(url):
    async with websockets.connect(url, subprotocols=["hub.v1"], ping_interval=None) as ws:
        say("protocol", ws.subprotocol)
        try:
            async for message in ws:
                e = json.loads(message)
                say(e["type"], "binary" if isinstance(message, bytes) else e["payload"])
                if e["type"] == "__welcome":
                    await ws.send('{"type":"whole","id":"1","payload":"é€😀"}')

                    async def pieces():
                        for c in '{"type":"fragments","id":"1","payload":"é€😀"}':
                            yield c

                    await ws.send(pieces())
                    await (await ws.ping(b"between"))
                    say("pong", "between")
                    await ws.send(b'{"type":"binary","id":"1","payload":1.50}')
                if e["type"] == "bye":
                    await ws.close(3001, "enough")
        except websockets.ConnectionClosedError:
            pass
        say("close", f"{ws.close_code} {ws.close_reason}")


asyncio.run(main(sys.argv[1]))
