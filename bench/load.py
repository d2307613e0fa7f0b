"""The load: many requests at once over raw sockets, so that the client costs little."""

import asyncio
import json

END_OF_HEADERS = b"\r\n\r\n"


async def ask_all(port: int, path: str, body: dict[str, object], count: int) -> list[bytes]:
    """Send `count` requests at once, each on its own connection; return the whole responses."""
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(ask(port, path, body)) for _ in range(count)]
    return [task.result() for task in asking]


async def ask_in_turn(port: int, path: str, body: dict[str, object], times: int) -> list[bytes]:
    """Send `times` requests one after the other."""
    return [await ask(port, path, body) for _ in range(times)]


async def ask(port: int, path: str, body: dict[str, object]) -> bytes:
    """Send one request and read the response to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + content)
    try:
        response = await reader.read(-1)
    finally:
        writer.close()
        await writer.wait_closed()
    status = response.split(b" ", 2)[1]
    if status != b"200":
        raise RuntimeError(f"{path} answered {response[:500].decode('utf-8', 'replace')}")
    return response
