"""One client connection to the fake upstream: parse requests, play steps, notice the end.

A bare asyncio protocol, so that it can send any byte at any time, end a connection in
any way, sees at once that a client has gone, and costs little under load.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, cast

from httptools import HttpRequestParser

from .script import Action, Step
from .wire import Request

RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Play = Callable[[Iterable[Step]], Awaitable[bool]]
"""Send an answer; True if it was sent whole, False if the script cut it."""


class Host(Protocol):
    """What serves the connections: `answer` is cancelled when the client has gone."""

    async def answer(self, request: Request, play: Play) -> None:
        """Answer one request."""

    async def hold(self) -> None:
        """Wait as long as an answer on HOLD does."""

    def opened(self, connection: "Connection") -> None:
        """Note a connection."""

    def closed(self, connection: "Connection") -> None:
        """Note its end."""


class Connection(asyncio.Protocol):
    """Give each request in turn to the host; `task` is what serves it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._parser = HttpRequestParser(self)
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._writable = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        self._writable.set()
        self.task = asyncio.get_running_loop().create_task(self._serve())
        self._host.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Stop at once whatever is being sent."""
        self.task.cancel()
        self._host.closed(self)

    def pause_writing(self) -> None:
        """Hold back: the client reads more slowly than the answer comes."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on: the client has caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came in; the parser calls the `on_` methods."""
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._path = self._body = b""
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Queue the request behind those before it."""
        method = self._parser.get_method().decode()
        path = self._path.partition(b"?")[0].decode()
        keep_alive = self._parser.should_keep_alive()
        request = Request(method, path, self._headers, self._body, keep_alive)
        self._requests.put_nowait(request)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    async def _serve(self) -> None:
        try:
            while True:
                request = await self._requests.get()
                await self._host.answer(request, self._play)
                if not request.keep_alive:
                    return
        finally:
            self._transport.close()

    async def _play(self, steps: Iterable[Step]) -> bool:
        for step in steps:
            if isinstance(step, bytes):
                self._transport.write(step)
                if not self._writable.is_set():
                    await self._writable.wait()
            elif not isinstance(step, Action):
                await asyncio.sleep(step)
            elif step is Action.HOLD:
                await self._host.hold()
            else:
                self._break_off(step)
                return False
        return True

    def _break_off(self, action: Action) -> None:
        if action is Action.RESET:
            connection: socket.socket = self._transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._transport.abort()
        else:
            self._transport.close()
