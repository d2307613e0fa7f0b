"""A client that asks and does not read: what a phone in a tunnel looks like to the service."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.service import RunningService
from tests.upstream import Script

FLOOD = Script(tokens=["x" * 10_000] * 1000)
"""10 MB: more than every buffer on the way holds."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@asynccontextmanager
async def unread(service: RunningService, path: str, body: dict[str, Any]) -> AsyncIterator[None]:
    """Ask, read nothing of the answer, and reset the connection on leaving."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {service.host}\r\ncontent-type: application/json\r\n"
    length = f"content-length: {len(content)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        await loop.sock_connect(client, (service.host, service.port))
        await loop.sock_sendall(client, (head + length).encode() + content)
        yield
