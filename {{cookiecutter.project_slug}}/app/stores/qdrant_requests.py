"""Requests to a Qdrant server: each has a deadline, and what fails is one of the store's errors.

An address is `http://host:port`, or `https://KEY@host:port` with an API key, percent-encoded where
need be; a path is that of a proxy before the server. The key goes into a header, and is in no
error, `repr` or log line.

Needs `protocol` beside it, and qdrant-client.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from json import JSONDecodeError
from math import ceil
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from qdrant_client import AsyncQdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)

from .protocol import StoreError, StoreUnavailableError

T = TypeVar("T")

PORT = 6333
TIMEOUT = 10.0
RETRY_AFTER = 1.0
"""Seconds: what a server that is away or busy is given, unless it says so itself."""
MAX_DETAIL = 200
WRONG = (
    "The address of the store is no Qdrant server: it must be like http://localhost:6333 "
    "or https://KEY@host:6333"
)
TIMED_OUT, TOO_MANY = 408, 429
REFUSED = {401, 403}
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Server:
    """Where a Qdrant server is, and the key to it."""

    url: str
    key: str = field(repr=False)

    def client(self, timeout: float) -> AsyncQdrantClient:
        """Make a client, which reads certificates from disk."""
        return AsyncQdrantClient(
            url=self.url,
            # As `api_key` it would be warned of at each start inside a private network.
            headers={"api-key": self.key} if self.key else None,
            timeout=ceil(timeout),
            check_compatibility=False,
        )


def server_at(address: str) -> Server:
    """Return the server at an address; ValueError, which does not show it, for any other text."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError:
        raise ValueError(WRONG) from None
    if not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise ValueError(WRONG)
    host = f"[{host}]" if ":" in host else host
    return Server(
        f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}",
        unquote(parts.password or parts.username or ""),
    )


class Requests:
    """Asks a client that it makes, and closes; `name` says in errors whom.

    A request to a server that cannot be reached, does not answer within `timeout` seconds, or
    fails on its own side raises StoreUnavailableError, as does any once closed; all else that is
    refused raises StoreError.
    """

    def __init__(self, name: str, make: Callable[[], AsyncQdrantClient], *, timeout: float) -> None:
        self._name = name
        self._make = make
        self._timeout = timeout
        self._client: AsyncQdrantClient | None = None

    async def open(self) -> None:
        """Make the client; nothing is sent."""
        self._client = await asyncio.to_thread(self._make)

    async def close(self) -> None:
        """Refuse further requests, and cut off those under way."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def __call__(self, ask: Callable[[AsyncQdrantClient], Awaitable[T]]) -> T:
        """Return what the client answers."""
        client = self._client
        if client is None:
            raise self._closed()
        try:
            async with asyncio.timeout(self._timeout):
                return await ask(client)
        except Exception as error:
            if self._client is None:
                raise self._closed() from error
            failure = self._failure(error)
            if failure is None:
                raise
            raise failure from error

    def _closed(self) -> StoreUnavailableError:
        return StoreUnavailableError(f"The store at {self._name} is closed")

    def _failure(self, error: Exception) -> StoreError | None:
        match error:
            case UnexpectedResponse():
                return self._refusal(error)
            case ResourceExhaustedResponse():
                return self._unavailable(str(error), error.retry_after_s)
            case JSONDecodeError():  # somebody else's answer, such as a proxy's
                detail = "it answers no JSON"
            case ValueError():  # what the client itself finds wrong
                return StoreError(_line(f"Qdrant at {self._name}: {error}"))
            case TimeoutError():
                detail = f"no answer within {self._timeout:g} s"
            case ResponseHandlingException():
                detail = f"{type(error.source).__name__}: {error.source}"
            case ApiException() | QdrantException():
                detail = str(error)
            case _:
                return None
        return self._unavailable(detail)

    def _unavailable(self, detail: str, retry_after: float = RETRY_AFTER) -> StoreUnavailableError:
        return StoreUnavailableError(
            _line(f"Qdrant at {self._name}: {detail}"), retry_after=retry_after
        )

    def _refusal(self, error: UnexpectedResponse) -> StoreError:
        status = error.status_code or SERVER_ERROR
        detail = f"{status} {_told(error)}"
        if status >= SERVER_ERROR or status in {TIMED_OUT, TOO_MANY}:
            return self._unavailable(detail)
        if status in REFUSED:
            detail = f"it refuses the API key, or there is none ({status})"
        return StoreError(_line(f"Qdrant at {self._name}: {detail}"))


def _told(error: UnexpectedResponse) -> str:
    try:
        return str(error.structured()["status"]["error"])
    except (ValueError, LookupError, TypeError):
        return error.reason_phrase


def _line(text: str) -> str:
    return " ".join(text.split())[:MAX_DETAIL]
