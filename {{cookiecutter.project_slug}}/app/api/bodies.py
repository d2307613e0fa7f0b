"""Request bodies: bounded, in time, from a known client, and cheap to process.

JSON is parsed, validated and passed on by the event loop. The cost grows with the number of values
rather than with their length, so that number is bounded, by counting bytes before the body is
parsed. A thread would not help: the parser holds the GIL.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from json import JSONDecodeError
from typing import Any

from fastapi import Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from app.api.admission import authenticate, bearer, services_of

MAX_TEXT = 4 * 1024 * 1024
"""Bytes of a JSON body without the data of its images, sounds and files."""
MEDIA = ("image_url", "input_audio", "file")
"""The parts of a message that hold them (OpenAI's API reference, "Create chat completion")."""
MAX_COST = 400_000
"""Of a JSON body: 1 for each value, 4 more for each string, 20 more for each array or object."""
MAX_MESSAGES = 4_000
"""Of a chat, each of which is validated, counted and translated."""


class GuardedRoute(APIRoute):
    """Refuse an unknown client with nothing of the body read, and bound the body of others.

    The key is looked up once more where a route depends on its client: that takes microseconds.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Put the check of the key, and the reading of the body, before FastAPI's own handler."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            services = await services_of(request)
            await authenticate(request, services, await bearer(request))
            limits = services.settings
            bounded = BoundedRequest(request, limits.max_body_bytes, limits.send_timeout)
            if self.body_field:
                if not is_json(media_type_of(request)):
                    raise invalid("media_type", "The Content-Type should be application/json")
                # FastAPI would call a client that leaves meanwhile a bad request.
                await bounded.body()
            return await handle(bounded)

        return guarded


def media_type_of(request: Request) -> str:
    """Return the media type of a body, without parameters and in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(media_type: str) -> bool:
    """Whether a body is announced as JSON; pages of other sites may send JSON as text/plain."""
    return media_type == "application/json" or media_type.endswith("+json")


class BoundedRequest(Request):
    """A request with a body of at most `max_body` bytes, whose client is never silent for longer.

    Its JSON is bounded as well, and can be encoded again as UTF-8: the standard library's parser
    lets lone surrogates through, which nothing can encode.
    """

    def __init__(self, request: Request, max_body: int, silence: float) -> None:
        super().__init__(request.scope, request.receive)
        self._max_body = max_body
        self._silence = silence

    async def stream(self) -> AsyncGenerator[bytes]:
        """Yield the pieces of the body; HTTPException 413 if it is too large, 408 if none comes."""
        size = int(self.headers.get("content-length", "0"))
        async with aclosing(super().stream()) as pieces:
            received = 0
            while True:
                _check_size(max(size, received), self._max_body)
                try:
                    async with asyncio.timeout(self._silence):
                        piece = await anext(pieces, None)
                except TimeoutError:
                    problem = f"nothing of the body came for {self._silence:g} s"
                    raise HTTPException(status.HTTP_408_REQUEST_TIMEOUT, problem) from None
                if piece is None:
                    return
                received += len(piece)
                yield piece

    async def json(self) -> object:
        """Parse the body; JSONDecodeError if it is not JSON, HTTPException 413 if it is too much.

        The parser bounds the depth.
        """
        body = await self.body()
        _check_structure(body)
        try:
            parsed = from_json(body)
        except ValueError as error:
            # A lone surrogate is only a hex escape to the parser.
            reason = f"{error} (a lone surrogate)" if "hex escape" in str(error) else str(error)
            raise JSONDecodeError(reason, "", 0) from None
        media = _media(parsed) if len(body) > MAX_TEXT else 0
        _check_size(len(body) - media, MAX_TEXT, " without images and files")
        return parsed


def invalid(kind: str, message: str, *loc: str) -> RequestValidationError:
    """Build the error of a body that is wrong, in the field `loc` if it is given."""
    return RequestValidationError([{"type": kind, "loc": ("body", *loc), "msg": message}])


def _check_size(size: int, limit: int, without: str = "") -> None:
    if size > limit:
        problem = f"the body is over the limit of {limit} bytes{without}"
        raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, problem)


def _check_structure(body: bytes) -> None:
    """Refuse more values, strings, arrays and objects than are processed at once.

    Counting all brackets, quotes and commas is enough for most bodies. Only where they are too
    many, those inside strings are left out.
    """
    if _cost(body) <= MAX_COST:
        return
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    too_many = 2 * unescaped.count(b'"') > MAX_COST
    if too_many or _cost(b'""'.join(unescaped.split(b'"')[::2])) > MAX_COST:
        problem = "the body has too many values: send fewer messages, parts or inputs at once"
        raise HTTPException(status.HTTP_413_CONTENT_TOO_LARGE, problem)


def _cost(body: bytes) -> int:
    containers = body.count(b"[") + body.count(b"{")
    return body.count(b",") + 2 * body.count(b'"') + 20 * containers


def _media(body: object) -> int:
    """Return the length of the images, sounds and files in the messages of a chat."""
    messages = _items(body.get("messages")) if isinstance(body, dict) else []
    parts = (part for message in messages for part in _items(message.get("content")))
    media = (part.get(kind) for part in parts for kind in MEDIA)
    values = (value for one in media for value in (one.values() if isinstance(one, dict) else ()))
    return sum(len(value) for value in values if isinstance(value, str))


def _items(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
