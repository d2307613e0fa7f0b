"""A server on a real socket that does what a test says, and a client of the transport alone."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.http.transport import AsyncioTransport
from tests.service import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Server:
    """Counts requests and connections, all and open ones; a test sets `done`."""

    url: str
    opened: int = 0
    open: int = 0
    requests: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_open(self, number: int) -> None:
        """Wait until so many connections are open."""
        await eventually(lambda: self.open == number)


@dataclass
class Peer:
    """One connection, seen by the server."""

    server: Server
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> None:
        """Read the head of a request."""
        await self.reader.readuntil(b"\r\n\r\n")
        self.server.requests += 1

    async def send(self, data: bytes) -> None:
        """Send bytes as fast as the client reads them."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed the connection."""
        while await self.reader.read(65_536):
            pass

    async def answer(self) -> None:
        """Answer every request with OK."""
        while True:
            await self.request()
            await self.send(OK)


@asynccontextmanager
async def serving(
    handle: Callable[[Peer], Awaitable[None]] = Peer.answer, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Serve each connection by `handle`, and close it where that ends."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.opened += 1
        server.open += 1
        with suppress(OSError, asyncio.IncompleteReadError):  # the client has closed it
            await handle(Peer(server, reader, writer))
        writer.close()
        server.open -= 1

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls) as listener:
        port = listener.sockets[0].getsockname()[1]
        server = Server(f"http{'s' if tls else ''}://127.0.0.1:{port}/")
        yield server
        await server.wait_open(0)


def client(timeout: httpx.Timeout | float | None = 10, **options: float) -> httpx.AsyncClient:
    """Build a client; by default it has one connection."""
    settings: dict[str, Any] = {"max_connections": 1, "keepalive": 60, **options}
    transport = AsyncioTransport(**settings, context=httpx.create_ssl_context())
    return httpx.AsyncClient(transport=transport, timeout=timeout)
