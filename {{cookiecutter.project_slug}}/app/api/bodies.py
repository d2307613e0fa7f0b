"""Request bodies: bounded, in time, from a known client, and cheap to process.

`ClientLimits` is plain ASGI middleware: Starlette's BaseHTTPMiddleware would put a queue and a task
between a stream and its client, and FastAPI's `max_body_size` answers without the service's error
format, request id and log line.

JSON is parsed, validated and passed on by the event loop. The cost grows with the number of values
rather than with their length, so that number is bounded, by counting bytes before the body is
parsed. A thread would not help: the parser holds the GIL.
"""

import asyncio
from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any

import structlog
from fastapi import Request, Response, status
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.admission import authenticate, bearer, services_of
from app.llm.stream import Interruptible

MAX_TEXT = 4 * 1024 * 1024
"""Bytes of a body without the data of its images, sounds and files."""
MEDIA = ("image_url", "input_audio", "file")
"""The parts of a message that hold them (OpenAI's API reference, "Create chat completion")."""
MAX_STRINGS = 100_000
MAX_CONTAINERS = 20_000
"""Arrays and objects."""
MAX_VALUES = 400_000
MAX_MESSAGES = 4_000
"""Of a chat, each of which is validated, counted and translated."""

log = structlog.get_logger(__name__)


class ClientLimits:
    """Bound a request's body to `max_body` bytes, and every wait for its client to `silence` s.

    Reading a body raises HTTPException: 413 where it is too large, whether its length is announced
    or not, and 408 where nothing comes. A client that does not read what was sent would hold its
    slot for ever; the application receives a disconnect. One timer a request checks the clock now
    and then, so that takes up to half as long again.
    """

    def __init__(self, app: ASGIApp, *, max_body: int, silence: float) -> None:
        self._app = app
        self._max_body = max_body
        self._silence = silence

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _LimitedRequest(scope, receive, send, self._max_body, self._silence)
        try:
            await self._app(scope, request.receive, request.send)
        finally:
            request.timer.cancel()


class _LimitedRequest:
    def __init__(
        self, scope: Scope, receive: Receive, send: Send, max_body: int, silence: float
    ) -> None:
        self._receive, self._send = receive, send
        self._max_body, self._silence = max_body, silence
        length = Headers(scope=scope).get("content-length", "")
        self._size = int(length) if length.isdecimal() else 0
        self._received = 0
        self._is_whole = False
        self._waits = Interruptible()
        self._sending_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self.timer = self._loop.call_later(silence / 2, self._look)

    async def receive(self) -> Message:
        if self._is_whole:
            try:
                return await self._waits.wait(self._receive)
            except _UnreadError:
                log.info("client does not read")
                return {"type": "http.disconnect"}
        self._check_size()
        try:
            async with asyncio.timeout(self._silence):
                message = await self._receive()
        except TimeoutError:
            problem = f"nothing of the body came for {self._silence:g} s"
            raise HTTPException(status.HTTP_408_REQUEST_TIMEOUT, problem) from None
        self._is_whole = not message.get("more_body")
        self._received += len(message.get("body", b""))
        self._size = max(self._size, self._received)
        self._check_size()
        return message

    async def send(self, message: Message) -> None:
        self._sending_since = self._loop.time()
        await self._send(message)
        self._sending_since = None

    def _check_size(self) -> None:
        if self._size > self._max_body:
            problem = f"the body is over the limit of {self._max_body} bytes"
            raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, problem)

    def _look(self) -> None:
        since = self._sending_since
        if since is not None and self._loop.time() - since >= self._silence:
            self._waits.interrupt(_UnreadError())
        else:
            self.timer = self._loop.call_later(self._silence / 2, self._look)


class _UnreadError(Exception):
    """The client has not read for too long."""


class GuardedRoute(APIRoute):
    """Refuse an unknown client with nothing of the body read; for routes with a body parameter.

    The key is looked up once more where a route depends on its client: that takes microseconds.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Put the check of the key, and the reading of the body, before FastAPI's own handler."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await authenticate(request, await services_of(request), await bearer(request))
            strict = StrictRequest(request.scope, request.receive)
            await strict.body()  # FastAPI would call a client that leaves meanwhile a bad request
            return await handle(strict)

        return guarded


class StrictRequest(Request):
    """A request whose JSON is bounded, and can be encoded again as UTF-8.

    The standard library's parser lets lone surrogates through, which nothing can encode, and
    fails on bytes that are no UTF-8 or on deep nesting with errors that are no JSONDecodeError.
    """

    async def json(self) -> object:
        """Parse the body; JSONDecodeError if it is not JSON, HTTPException 413 if it is too much.

        The parser bounds the depth.
        """
        body = await self.body()
        _check_structure(body)
        try:
            parsed = from_json(body)
        except ValueError as error:
            raise JSONDecodeError(_reason(error), "", 0) from None
        text = len(body) - (_media(parsed) if len(body) > MAX_TEXT else 0)
        if text > MAX_TEXT:
            raise _too_large(f"{text} bytes without images and files", MAX_TEXT)
        return parsed


def _check_structure(body: bytes) -> None:
    """Refuse more arrays, objects, strings or values than are processed at once.

    Counting all brackets, quotes and commas is enough for most bodies. Only where they are too
    many, those inside strings are left out.
    """
    if not _excess(body):
        return
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = unescaped.count(b'"')
    if quotes > 2 * MAX_STRINGS:
        raise _too_large(f"{quotes // 2} strings", MAX_STRINGS)
    if excess := _excess(b"".join(unescaped.split(b'"')[::2])):
        raise _too_large(*excess)


def _excess(body: bytes) -> tuple[str, int] | None:
    """Return what there is too much of by counting bytes, and how many may be."""
    containers = body.count(b"[") + body.count(b"{")
    if containers > MAX_CONTAINERS:
        return f"{containers} arrays and objects", MAX_CONTAINERS
    values = containers + body.count(b",")
    if values > MAX_VALUES:
        return f"{values} values", MAX_VALUES
    if body.count(b'"') > 2 * MAX_STRINGS:
        return "too many strings", MAX_STRINGS
    return None


def _media(body: object) -> int:
    """Return the length of the images, sounds and files in the messages of a chat."""
    messages = _items(body.get("messages")) if isinstance(body, dict) else []
    parts = (part for message in messages for part in _items(message.get("content")))
    media = (part.get(kind) for part in parts for kind in MEDIA)
    values = (value for one in media for value in (one.values() if isinstance(one, dict) else ()))
    return sum(len(value) for value in values if isinstance(value, str))


def _items(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _too_large(found: str, limit: int) -> HTTPException:
    detail = f"the body has {found}, the limit is {limit}"
    return HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, detail)


def _reason(error: ValueError) -> str:
    """Return why the parser failed; a lone surrogate is only a hex escape to it."""
    return f"{error} (a lone surrogate)" if "hex escape" in str(error) else str(error)
