"""One HTTP/1.1 connection, and the exchange on it: a request, and its response as it comes.

The bytes of a response go to its own `Exchange`, so they cannot come out of another response. A
connection can be used again only after both sides of the exchange have ended.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Self, cast

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

LIMIT = 64 * 1024
"""Bytes of headers at most; of a body before the reader is behind; of one write."""

_TIMEOUTS = {"read": httpx.ReadTimeout, "write": httpx.WriteTimeout}
_TOO_MUCH = f"more than {LIMIT} bytes of headers"


class Connection(asyncio.Protocol):
    """Hands what happens to the exchange; bytes that no exchange waits for close it.

    `give_back` is called when an exchange is over, with whether another one can follow.
    """

    transport: asyncio.Transport

    def __init__(self, origin: str, give_back: Callable[["Connection", bool], None]) -> None:
        self.origin, self.give_back = origin, give_back
        self.exchange: Exchange | None = None
        self.lost = asyncio.get_running_loop().create_future()
        self.write_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, which asyncio's loops and uvloop have types of their own for."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on; with no exchange the server has broken the protocol."""
        if self.exchange is None:
            self.abort()
        else:
            self.exchange.feed(data)

    def eof_received(self) -> None:
        """Close both ways: the server reads no more of a request."""
        if self.exchange is not None:
            self.exchange.end(None)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end, with the error where one was the reason."""
        self.lost.set_result(None)
        if self.exchange is not None:
            self.exchange.end(exc)

    def pause_writing(self) -> None:
        """Stop sending: the server reads more slowly than the request comes."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """Go on with the request."""
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.wake()

    def abort(self) -> None:
        """Close at once; an exchange that has not ended fails."""
        if self.exchange is not None:
            self.exchange.fail(httpx.ReadError, "this client closed the connection")
        self.transport.abort()


class Exchange(httpx.AsyncByteStream):
    """One request and its response: httptools calls the `on_` methods, httpx reads the body."""

    def __init__(self, connection: Connection, request: httpx.Request) -> None:
        connection.exchange = self
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.unread = 0  # bytes that came since the reader took some
        self._connection, self._request = connection, request
        self._parser = HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._sent = self._has_head = self._ended = self._until_close = self._keep_alive = False

    async def send(self) -> None:
        """Send the request and wait for the head of the response, which may come first."""
        try:
            if self._connection.transport.is_closing():
                self.end(None)
            await self._send()
            while not self._has_head:
                await self._wait("read")
        except BaseException:
            self._connection.abort()
            raise

    async def _send(self) -> None:
        request = self._request
        chunked = "transfer-encoding" in request.headers
        missing = int(request.headers.get("content-length", 0))
        data = _encode_head(request)
        async for part in cast("httpx.AsyncByteStream", request.stream):
            missing -= len(part)
            data += b"%x\r\n%b\r\n" % (len(part), part) if chunked and part else part
            if not await self._write(data):
                return
            data = b""
        if missing and not chunked:
            raise httpx.LocalProtocolError("the request's body does not fit its Content-Length")
        self._sent = await self._write(data + b"0\r\n\r\n" if chunked else data)

    async def _write(self, data: bytes) -> bool:
        """Write as fast as the server reads; return False where it has answered without reading."""
        for start in range(0, len(data), LIMIT):
            while self._connection.write_paused and not self._has_head:
                await self._wait("write")
            if self._failure is not None:
                raise self._failure
            if self._connection.write_paused or self._ended:
                return False
            self._connection.transport.write(data[start : start + LIMIT])
        return True

    async def _wait(self, what: str) -> None:
        """Wait until something happens on the connection; raise what ended it."""
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        seconds = self._request.extensions.get("timeout", {}).get(what)
        if seconds is None:
            await self._waiter
            return
        timer = loop.call_later(seconds, self.fail, _TIMEOUTS[what], f"{what} timeout, {seconds} s")
        try:
            await self._waiter
        finally:
            timer.cancel()

    def wake(self) -> None:
        """Let the task that waits look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def feed(self, data: bytes) -> None:
        """Parse what has come; stop reading from the socket when the reader is behind."""
        self.unread += len(data)
        try:
            self._parser.feed_data(data)
            if self.unread > LIMIT and not self._ended:
                if not self._pieces:
                    raise HttpParserError(_TOO_MUCH)  # noqa: TRY301
                self._connection.transport.pause_reading()
        except (HttpParserError, HttpParserUpgrade) as error:
            reason = f"not valid HTTP/1.1: {error.__context__ or error}"
            self.fail(httpx.RemoteProtocolError, reason)
            self._connection.abort()
        self.wake()

    def fail(self, kind: type[httpx.TransportError], reason: str) -> None:
        """End with an error, unless the response has ended: then it stays valid."""
        if not self._ended and self._failure is None:
            self._failure = kind(f"{self._connection.origin}: {reason}")
        self.wake()

    def end(self, error: Exception | None) -> None:
        """Judge what the end of the connection means; without an error the server ended it."""
        if error is not None:
            self.fail(httpx.ReadError, str(error))
        elif self._until_close and self._failure is None:
            self._ended = True
            self.wake()
        else:
            missing = "the response was complete" if self._has_head else "a response came"
            self.fail(httpx.RemoteProtocolError, f"closed by the server before {missing}")

    def on_message_begin(self) -> None:
        """Begin a response: the first, one after an interim response, or one too many."""
        if self._ended:
            raise ValueError("bytes after the end of the response")
        self.headers.clear()  # of an interim response

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes after the head is a trailer."""
        if not self._has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Find how the body ends. After the head of a response to HEAD the parser must stop."""
        self.status = self._parser.get_status_code()
        if self.status < httpx.codes.OK:  # an interim response
            return
        if sum(len(name) + len(value) for name, value in self.headers) > LIMIT:
            raise ValueError(_TOO_MUCH)
        framing = {name.lower(): value.lower() for name, value in self.headers}
        if framing.get(b"transfer-encoding", b"chunked") != b"chunked":
            raise ValueError("a transfer coding other than chunked")
        self._until_close = not framing.keys() & {b"content-length", b"transfer-encoding"}
        self._keep_alive = self._parser.should_keep_alive()
        self._has_head = True
        if self._request.method == "HEAD":
            self._ended = True
            raise ValueError

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, without its framing."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note the end, unless it is that of an interim response."""
        self._ended = self._has_head

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return what has come since the last call, at least one byte."""
        pieces = self._pieces
        while not pieces:
            if self._ended:
                raise StopAsyncIteration
            await self._wait("read")
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self.unread > LIMIT:
            self._connection.transport.resume_reading()
        self.unread = 0
        return data

    async def aclose(self) -> None:
        """Give the connection back, for another exchange if nothing of this one is left on it."""
        connection = self._connection
        if connection.exchange is not self:
            return
        clean = self._ended and self._sent and self._keep_alive and self.unread <= LIMIT
        self.fail(httpx.ReadError, "the response was closed before its end")
        connection.exchange = None
        del self._parser  # it refers to this object
        connection.give_back(connection, clean)


def _encode_head(request: httpx.Request) -> bytes:
    start = b"%b %b HTTP/1.1" % (request.method.encode("ascii", "replace"), request.url.raw_path)
    lines = [start, *(b"%b: %b" % header for header in request.headers.raw)]
    if re.search(rb"[\r\n\0]", b"".join(lines)):  # not quoted: it may be a key
        raise httpx.LocalProtocolError("a header has a character that HTTP does not allow")
    return b"\r\n".join([*lines, b"", b""])
