"""Calls to a provider over a shared httpx client, with failures as ProviderErrors.

What every adapter needs: one place that sends JSON, streams events back, and
turns transport failures and error statuses into the protocol's errors. The
client is the caller's and is never closed here.

Needs: httpx, pydantic-core (its JSON codec), `base.py`, `retry_after.py`, `sse.py` and
`transport_errors.py` beside it.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
)
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from time import time

import httpx
from pydantic_core import from_json, to_json

from .base import (
    BrokenStreamError,
    JSONObject,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from .retry_after import retry_after_seconds
from .sse import EventTooLargeError, ServerSentEvent, SSEDecoder
from .transport_errors import transport_errors

MAX_ERROR_BODY = 64 * 1024
END_OF_BODY_GRACE = 0.25

OnHeaders = Callable[[Mapping[str, str]], None]
"""Called with the headers of each response, whatever its status."""

STATUS_ERRORS: dict[int, type[ProviderError]] = {
    401: ProviderAuthenticationError,
    402: ProviderRateLimitedError,
    403: ProviderAuthenticationError,
    408: ProviderUnavailableError,
    429: ProviderRateLimitedError,
    503: ProviderOverloadedError,
    529: ProviderOverloadedError,
}


class ProviderEndpoint:
    """One provider's base URL and headers on a shared client.

    `kind_of_error` names the error for the details that an error body gives; where it
    returns None, the status decides.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        name: str,
        base_url: str,
        headers: Mapping[str, str],
        on_headers: OnHeaders | None = None,
        kind_of_error: Callable[[Mapping[str, object]], type[ProviderError] | None] | None = None,
    ) -> None:
        self.name = name
        self._client = client
        self._on_headers = on_headers or (lambda _: None)
        self._kind_of_error = kind_of_error or (lambda _: None)
        self._base_url = base_url.rstrip("/")
        self._headers = {"content-type": "application/json", **headers}

    @asynccontextmanager
    async def events(
        self, path: str, body: JSONObject
    ) -> AsyncIterator[AsyncIterator[list[ServerSentEvent]]]:
        """POST `body` and read the answer as events, one list a network read.

        Leaving the context closes the connection if the answer has not ended.
        """
        # Compression would hold tokens back until a block is full.
        headers = {**self._headers, "accept": "text/event-stream", "accept-encoding": "identity"}
        call = self._client.stream(
            "POST", self._base_url + path, content=_encode(body), headers=headers
        )
        async with AsyncExitStack() as stack:
            with transport_errors(self.name):
                response = await stack.enter_async_context(call)
                self._on_headers(response.headers)
                if response.status_code != httpx.codes.OK:
                    raise self._status_error(response, await _read_bounded(response))
            yield await stack.enter_async_context(aclosing(self._decoded(response)))

    async def _decoded(self, response: httpx.Response) -> AsyncGenerator[list[ServerSentEvent]]:
        decoder = SSEDecoder()
        with transport_errors(self.name):
            async for received in _body(response):
                try:
                    events = decoder.feed(received)
                except EventTooLargeError as error:
                    raise BrokenStreamError(f"{self.name}: {error}") from error
                if events:
                    yield events

    async def json(self, method: str, path: str, body: JSONObject | None = None) -> JSONObject:
        """Send a plain request and return the JSON object it answers with."""
        content = None if body is None else _encode(body)
        with transport_errors(self.name):
            response = await self._client.request(
                method, self._base_url + path, content=content, headers=self._headers
            )
        self._on_headers(response.headers)
        if response.status_code != httpx.codes.OK:
            raise self._status_error(response, response.content)
        return self.parse(response.content)

    def parse(self, data: bytes) -> JSONObject:
        """Parse a JSON object; anything else is a BrokenStreamError."""
        try:
            body = from_json(data)
        except ValueError as error:
            raise BrokenStreamError(f"{self.name} sent something that is not JSON") from error
        if not isinstance(body, dict):
            raise BrokenStreamError(f"{self.name} sent JSON that is not an object")
        return body

    def _status_error(self, response: httpx.Response, content: bytes) -> ProviderError:
        status = response.status_code
        retry_after = retry_after_seconds(response.headers, now=time())
        details = error_details(content)
        kind = self._kind_of_error(details) or STATUS_ERRORS.get(status)
        if kind is None:
            rejected = httpx.codes.is_client_error(status)
            kind = ProviderRejectedError if rejected else ProviderUnavailableError
        return self.error(kind, f"answered {status}", details, retry_after, status)

    def error(
        self,
        kind: type[ProviderError],
        happened: str,
        details: Mapping[str, object],
        retry_after: float | None = None,
        status: int | None = None,
    ) -> ProviderError:
        """Build an error that says who, what, and the provider's own words.

        A provider's words about credentials are left out: they quote the key.
        """
        message = f"{self.name} {happened}"
        if kind is ProviderAuthenticationError:
            return kind(f"{message}: it refused the service's credentials")
        code, param = details.get("code"), details.get("param")
        return kind(
            message,
            said=str(details.get("message") or ""),
            retry_after=retry_after,
            status=status,
            code=None if code is None else str(code),
            param=None if param is None else str(param),
        )


def _encode(body: JSONObject) -> bytes:
    try:
        return to_json(body)
    except ValueError as error:  # as a rule half a surrogate pair, which JSON's \ud800 can say
        raise ProviderRejectedError("the request cannot be encoded as UTF-8 JSON") from error


async def read_to_end(events: AsyncIterator[list[ServerSentEvent]]) -> None:
    """Read past the end mark, so that the connection goes back to the pool.

    The end of the body follows the mark at once, as a rule in the same packet; a server
    that holds it back costs a quarter of a second and the connection.
    """
    with suppress(TimeoutError, ProviderError):
        async with asyncio.timeout(END_OF_BODY_GRACE):
            async for _ in events:
                pass


def _body(response: httpx.Response) -> AsyncIterable[bytes]:
    """Read the body in the pieces that the network delivers.

    Where nothing is compressed the stream itself is read: httpx' iterators would
    take it through three more generators for each piece.
    """
    if "content-encoding" in response.headers:
        return response.aiter_bytes()
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 (an async client's is)
    return response.stream


async def _read_bounded(response: httpx.Response) -> bytes:
    content = b""
    async for received in response.aiter_bytes():
        content += received
        if len(content) >= MAX_ERROR_BODY:
            break
    return content[:MAX_ERROR_BODY]


def error_details(content: bytes) -> Mapping[str, object]:
    """Find the error object in a provider's error body, whatever its shape.

    OpenAI and Anthropic nest it under `error`; compatible servers send it flat,
    or a bare string. What is not JSON becomes the message, shortened.
    """
    try:
        body = from_json(content)
    except ValueError:
        return {"message": content[:200].decode("utf-8", "replace").strip()}
    if isinstance(body, dict):
        body = body.get("error", body)
    return body if isinstance(body, dict) else {"message": str(body)[:200]}
