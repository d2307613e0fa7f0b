"""An httpx transport: a bounded pool of HTTP/1.1 connections on asyncio protocols and httptools.

Guarantees: at most `max_connections` are open, and requests get them in order; bytes of one
response never reach another; a cancelled request leaves no connection behind that is not clean;
`aclose()` leaves nothing open. A request whose kept connection was closed before a byte of the
response came is sent once more if its body is bytes. Timeouts and errors are httpx's.

Needs: httpx, httptools and aiohappyeyeballs.
"""

import asyncio
import ssl
from functools import partial
from socket import SOCK_STREAM

import httpx
from aiohappyeyeballs import start_connection

from .connection import Connection, Exchange

PORTS = {"http": 80, "https": 443}


class AsyncioTransport(httpx.AsyncBaseTransport):
    """Sends requests over kept connections; an idle one is closed after `keepalive` seconds."""

    def __init__(self, *, max_connections: int, keepalive: float, context: ssl.SSLContext) -> None:
        self._max_connections, self._keepalive, self._context = max_connections, keepalive, context
        self._slots = asyncio.Semaphore(max_connections)
        self._busy = 0
        self._open: set[Connection] = set()
        self._idle: dict[Connection, asyncio.TimerHandle] = {}  # the oldest first
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the response holds its connection until it is closed."""
        if request.url.scheme not in PORTS:
            raise httpx.UnsupportedProtocol(f"not an http:// or https:// URL: {request.url.host}")
        seconds = request.extensions.get("timeout", {}).get("pool")
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            reason = f"all {self._max_connections} connections were in use for {seconds:g} s"
            raise httpx.PoolTimeout(reason) from error
        self._busy += 1
        try:
            exchange = await self._send(request)
        except BaseException:
            self._release()
            raise
        return httpx.Response(exchange.status, headers=exchange.headers, stream=exchange)

    def _release(self) -> None:
        self._busy -= 1
        self._slots.release()

    async def _send(self, request: httpx.Request) -> Exchange:
        """Send on a kept connection; on a new one if there is none, or if it was stale."""
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        kept = self._take_idle(origin)
        connection = kept or await self._connect(origin, request)
        exchange = Exchange(connection, request)
        try:
            await exchange.send()
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            if not kept or exchange.unread or not isinstance(request.stream, httpx.ByteStream):
                raise
            exchange = Exchange(await self._connect(origin, request), request)
            await exchange.send()
        return exchange

    def _take_idle(self, origin: str) -> Connection | None:
        """Take the one that was used last, so that the others can expire."""
        for connection in reversed(self._idle):
            if connection.origin == origin and not connection.transport.is_closing():
                self._idle.pop(connection).cancel()
                return connection
        return None

    async def _connect(self, origin: str, request: httpx.Request) -> Connection:
        """Open a connection, if need be in the place of the one that is idle for longest."""
        if self._busy + len(self._idle) > self._max_connections:
            oldest = next(iter(self._idle))
            self._forget(oldest)
            oldest.abort()
        seconds = request.extensions.get("timeout", {}).get("connect")
        try:
            async with asyncio.timeout(seconds):
                connection = await self._open_connection(origin, request.url)
        except (OSError, UnicodeError) as error:  # UnicodeError: a label of the name is too long
            kind = httpx.ConnectTimeout if isinstance(error, TimeoutError) else httpx.ConnectError
            reason = str(error) or f"{type(error).__name__} (connect timeout: {seconds} s)"
            raise kind(f"cannot connect to {origin}: {reason}") from error
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._forget(connection))
        if self._closed:
            connection.abort()
        return connection

    async def _open_connection(self, origin: str, url: httpx.URL) -> Connection:
        """Open a connection to the first of the host's addresses that accepts it."""
        loop = asyncio.get_running_loop()
        host, port = url.raw_host.decode("ascii"), url.port or PORTS[url.scheme]
        addresses = await loop.getaddrinfo(host, port, type=SOCK_STREAM)
        sock = await start_connection(addresses, happy_eyeballs_delay=0.25)  # as RFC 8305 says
        context, name = (self._context, host) if url.scheme == "https" else (None, None)
        factory = partial(Connection, origin, self._give_back)
        opened = await loop.create_connection(factory, sock=sock, ssl=context, server_hostname=name)
        return opened[1]

    def _give_back(self, connection: Connection, clean: bool) -> None:
        self._release()
        if not clean:
            connection.abort()
        elif not connection.transport.is_closing():
            loop = asyncio.get_running_loop()
            self._idle[connection] = loop.call_later(self._keepalive, connection.abort)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if timer := self._idle.pop(connection, None):
            timer.cancel()

    async def aclose(self) -> None:
        """Close every connection; requests in flight fail with an error of httpx."""
        self._closed = True
        for connection in self._open:
            connection.abort()
        if lost := [connection.lost for connection in self._open]:
            await asyncio.wait(lost, timeout=1)
