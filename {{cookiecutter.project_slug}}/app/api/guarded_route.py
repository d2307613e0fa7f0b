"""A route that reads a body only once it is known who sends it.

FastAPI parses a route's body before it runs what the route depends on, the key's check
included: anybody could make the service read and parse as much as `MAX_BODY_BYTES`.
"""

from collections.abc import Callable, Coroutine
from json import JSONDecodeError
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from app.api.auth import authenticate, bearer
from app.api.services import services_of


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
    """A request whose JSON is what can be said in UTF-8 again, of a bounded depth.

    The standard library's parser lets lone surrogates through, which nothing can encode, and
    fails on bytes that are no UTF-8 or on deep nesting with errors that are no JSONDecodeError.
    """

    async def json(self) -> object:
        """Parse the body; JSONDecodeError, by whose `msg` the client is told what is wrong."""
        try:
            return from_json(await self.body())
        except ValueError as error:
            raise JSONDecodeError(_said(error), "", 0) from None


def _said(error: ValueError) -> str:
    """Return the parser's words; what it calls a hex escape may be spelled as it should be."""
    return f"{error} (a lone surrogate)" if "hex escape" in str(error) else str(error)
