"""The yardstick: a relay that passes bytes between two sockets and looks at none of them.

    python -m bench.relay PORT UPSTREAM_PORT

No HTTP, no parsing, no limits: about the least that a program on asyncio's streams and its own
event loop does for a stream.
"""

import asyncio
import sys

READ_SIZE = 64 * 1024


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass everything on, then close."""
    try:
        while data := await reader.read(READ_SIZE):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def main(port: int, upstream_port: int) -> None:
    """Relay from `port` to `upstream_port` until killed."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await asyncio.open_connection("127.0.0.1", upstream_port)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pump(reader, upstream[1]))
            tasks.create_task(pump(upstream[0], writer))

    server = await asyncio.start_server(relay, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
