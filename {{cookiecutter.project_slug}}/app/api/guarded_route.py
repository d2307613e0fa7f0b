"""A route that authenticates before it reads the body, and whose JSON is cheap to process.

FastAPI parses a route's body before it runs the route's dependencies, authentication included:
anybody could make the service read and parse as much as `MAX_BODY_BYTES`.

JSON is parsed, validated and passed on by the event loop. The cost grows with the number of values
rather than with their length, so that number is bounded, by counting bytes before the body is
parsed. A thread would not help: the parser holds the GIL.
"""

from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any

from fastapi import Request, Response, status
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from app.api.auth import authenticate, bearer
from app.api.services import services_of

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
            raise JSONDecodeError(_said(error), "", 0) from None
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


def _said(error: ValueError) -> str:
    """Return the parser's words; what it calls a hex escape may be spelled as it should be."""
    return f"{error} (a lone surrogate)" if "hex escape" in str(error) else str(error)
