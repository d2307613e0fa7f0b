"""What the adapters share: JSON and event streams over one httpx client, with typed errors.

Every failure of the network or of the provider becomes a ProviderError that says what a caller can
do. Messages name the provider only, never addresses, headers or keys. The client is the caller's
and is not closed here.

Needs: httpx, pydantic-core (its JSON codec), `app.errors`, `base.py` and `sse.py`.
Sources: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers;
https://platform.claude.com/docs/en/api/rate-limits#response-headers
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass

import httpx
from pydantic_core import from_json, to_json

from app.errors import parse_retry_after

from .base import (
    BrokenStreamError,
    Chunk,
    ChunkStream,
    JSONObject,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from .sse import ServerSentEvent, SSEDecoder

JSON = {"content-type": "application/json"}
MAX_ERROR_BODY = 64 * 1024
MAX_ERROR_TEXT = 200
"""Characters of an error body that is not JSON, as a proxy's page of HTML."""
END_OF_BODY_GRACE = 0.25
"""Seconds to wait for the end of a body after the end mark."""

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
# By the `code` or `type` of an error object; many servers put the status there.
NAMED_ERRORS: dict[str, type[ProviderError]] = {
    **{str(status): kind for status, kind in STATUS_ERRORS.items()},
    "400": ProviderRejectedError,
    "authentication_error": ProviderAuthenticationError,
    "invalid_api_key": ProviderAuthenticationError,
    "permission_error": ProviderAuthenticationError,
    "billing_error": ProviderRateLimitedError,
    "insufficient_quota": ProviderRateLimitedError,
    "rate_limit_error": ProviderRateLimitedError,
    "rate_limit_exceeded": ProviderRateLimitedError,
    "overloaded_error": ProviderOverloadedError,
    "context_length_exceeded": ProviderRejectedError,
    "invalid_request_error": ProviderRejectedError,
    "not_found_error": ProviderRejectedError,
    "request_too_large": ProviderRejectedError,
}
RATE_LIMIT_HEADERS = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
)
RATE_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")


Decode = Callable[[ServerSentEvent], list[Chunk] | None]
"""Turns one event of an answer into chunks, None for the end mark; raises ProviderError."""


@dataclass(eq=False, repr=False)  # a repr would show the key
class HTTPProvider:
    """The base of the adapters: one provider's address and key on a shared client.

    `api_key` may be empty for a server without keys. `on_headers` is called with the headers of
    each response, which carry the state of the account's rate limits.
    """

    client: httpx.AsyncClient
    _: KW_ONLY
    base_url: str
    api_key: str = ""
    name: str = ""
    on_headers: OnHeaders | None = None

    def _headers(self) -> dict[str, str]:
        """Return the headers that carry the key, and others of the provider's own."""
        raise NotImplementedError

    def _note_headers(self, response: httpx.Response) -> None:
        if self.on_headers:
            self.on_headers(response.headers)

    def _url(self, path: str) -> str:
        """Join the base URL and a path."""
        return self.base_url.rstrip("/") + path

    @asynccontextmanager
    async def _stream(
        self, path: str, body: JSONObject, decode: Decode
    ) -> AsyncIterator[ChunkStream]:
        """POST `body` and decode the answer's events, one list of chunks a network read.

        Leaving the context closes the connection if the answer has not ended.
        """
        # Compression would hold tokens back until a block is full.
        headers = {
            **JSON,
            **self._headers(),
            "accept": "text/event-stream",
            "accept-encoding": "identity",
        }
        call = self.client.stream("POST", self._url(path), content=_encode(body), headers=headers)
        async with AsyncExitStack() as stack:
            with transport_errors(self.name):
                response = await stack.enter_async_context(call)
                self._note_headers(response)
                if response.status_code != httpx.codes.OK:
                    raise self._status_error(response, await _read_bounded(response))
            yield await stack.enter_async_context(aclosing(self._chunks(response, decode)))

    async def _chunks(
        self, response: httpx.Response, decode: Decode
    ) -> AsyncGenerator[list[Chunk]]:
        """Pass on what came before a failure in the same read, then raise it."""
        sse, body = SSEDecoder(), _body(response)
        with transport_errors(self.name):
            async for received in body:
                events = sse.feed(received)
                chunks: list[Chunk] = []
                ended = False
                try:
                    for event in events:
                        decoded = decode(event)
                        if ended := decoded is None:
                            break
                        chunks += decoded
                except ProviderError:
                    yield chunks
                    raise
                if events:  # an empty list is a sign of life
                    yield chunks
                if ended:
                    await self._read_to_end(body)
                    return
        raise BrokenStreamError(f"{self.name} ended the answer without its end mark")

    async def _read_to_end(self, body: AsyncIterator[bytes]) -> None:
        """Read past the end mark, so that the connection goes back to the pool.

        As a rule the end of the body comes in the same packet; a server that holds it back costs a
        quarter of a second and the connection.
        """
        with suppress(TimeoutError, ProviderError), transport_errors(self.name):
            async with asyncio.timeout(END_OF_BODY_GRACE):
                async for _ in body:
                    pass

    async def _json(self, method: str, path: str, body: JSONObject | None = None) -> JSONObject:
        """Send a plain request and return the JSON object of its answer."""
        content = None if body is None else _encode(body)
        with transport_errors(self.name):
            response = await self.client.request(
                method, self._url(path), content=content, headers=JSON | self._headers()
            )
        self._note_headers(response)
        if response.status_code != httpx.codes.OK:
            raise self._status_error(response, response.content)
        return self._parse(response.content)

    def _parse(self, data: bytes) -> JSONObject:
        """Parse a JSON object; anything else is a BrokenStreamError."""
        try:
            body = from_json(data)
        except ValueError as error:
            raise BrokenStreamError(f"{self.name} sent something that is not JSON") from error
        if not isinstance(body, dict):
            raise BrokenStreamError(f"{self.name} sent JSON that is not an object")
        return body

    def _kind_of(self, details: Mapping[str, object]) -> type[ProviderError] | None:
        """Find the type of an error by its `code` or `type`; None where they are not known."""
        names = (str(details.get("code")), str(details.get("type")))
        return next((NAMED_ERRORS[name] for name in names if name in NAMED_ERRORS), None)

    def _status_error(self, response: httpx.Response, content: bytes) -> ProviderError:
        """Build the error of a response by its status; other statuses by the error's own name."""
        try:
            details = error_details(from_json(content))
        except ValueError:
            details = error_details(content[:MAX_ERROR_TEXT].decode("utf-8", "replace").strip())
        status = response.status_code
        kind = STATUS_ERRORS.get(status) or self._kind_of(details)
        if kind is None:
            rejected = httpx.codes.is_client_error(status)
            kind = ProviderRejectedError if rejected else ProviderUnavailableError
        error = self._error(kind, f"answered {status}", details)
        error.status = status
        if kind is not ProviderAuthenticationError:
            error.retry_after, error.has_retry_after = retry_after(response.headers)
        return error

    def _answer_error(self, body: object) -> ProviderError:
        """Build the error of an answer under status 200 that is or contains an error object."""
        details = error_details(body)
        kind = self._kind_of(details) or ProviderUnavailableError
        return self._error(kind, "failed to answer", details)

    def _error(
        self, kind: type[ProviderError], event: str, details: Mapping[str, object]
    ) -> ProviderError:
        """Build an error with the provider's text, but not about credentials: it quotes the key."""
        message = f"{self.name} {event}"
        if kind is ProviderAuthenticationError:
            return kind(f"{message}: it refused the service's credentials")
        error = kind(message, detail=str(details.get("message") or ""))
        for field in ("code", "param"):
            if details.get(field) is not None:
                setattr(error, field, str(details[field]))
        return error


def error_details(body: object) -> Mapping[str, object]:
    """Find the error object in a body: nested under `error`, flat, or a bare string."""
    if isinstance(body, dict):
        body = body.get("error") or body
    return body if isinstance(body, dict) else {"message": str(body)[:MAX_ERROR_TEXT]}


def retry_after(
    headers: Mapping[str, str], *, now: float | None = None
) -> tuple[float | None, bool]:
    """Return how many seconds to wait, and whether the provider has a Retry-After.

    `retry-after-ms` is more exact than `Retry-After`. Without either the wait ends with the last
    reset of the used-up rate limits; None if there is none. `now` is in seconds since the epoch.
    """
    for value in (f"{headers.get('retry-after-ms', '')}ms", headers.get("retry-after", "")):
        seconds = parse_retry_after(value, now=now)
        if seconds is not None:
            return seconds, True
    return max(_resets(headers, now), default=None), False


def _resets(headers: Mapping[str, str], now: float | None) -> Iterator[float]:
    """Find the seconds until each used-up rate limit resets."""
    for limit in RATE_LIMITS:
        for remaining, reset in RATE_LIMIT_HEADERS:
            seconds = parse_retry_after(headers.get(reset.format(limit), ""), now=now)
            if headers.get(remaining.format(limit)) == "0" and seconds is not None:
                yield seconds


def _encode(body: JSONObject) -> bytes:
    try:
        return to_json(body)
    except ValueError as error:  # as a rule half a surrogate pair, which JSON's \ud800 can hold
        raise ProviderRejectedError("the request cannot be encoded as UTF-8 JSON") from error


def _body(response: httpx.Response) -> AsyncIterator[bytes]:
    """Read the body in the pieces that the network delivers.

    Where nothing is compressed the stream itself is read: httpx's iterators would take it through
    three more generators for each piece.
    """
    if "content-encoding" in response.headers:
        return response.aiter_bytes()
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 (an async client's is)
    return aiter(response.stream)


async def _read_bounded(response: httpx.Response) -> bytes:
    """Read an error body up to a bound: it may be endless."""
    content = b""
    async for received in response.aiter_bytes():
        content += received
        if len(content) >= MAX_ERROR_BODY:
            break
    return content


@contextmanager
def transport_errors(name: str) -> Iterator[None]:
    """Raise what httpx raises inside as errors of the provider `name`."""
    try:
        yield
    except httpx.DecodingError as error:
        raise BrokenStreamError(f"{name}: cannot decompress the answer") from error
    except (httpx.ReadError, httpx.RemoteProtocolError) as error:
        raise BrokenStreamError(f"{name} cut the connection") from error
    except httpx.HTTPError as error:
        # httpx-aiohttp raises ConnectTimeout also where the connection was refused or cut.
        mistaken = _is_aiohttp(error.__cause__) and not isinstance(error.__cause__, TimeoutError)
        if isinstance(error, httpx.TimeoutException) and not mistaken:
            message = f"{name} could not be connected to in time"
            raise ProviderTimeoutError(message, stage="connect") from error
        raise ProviderUnavailableError(f"{name} cannot be reached") from error
    except Exception as error:
        if not _is_aiohttp(error):
            raise
        # Not from `error`: its repr has the request's headers, and so the key.
        raise BrokenStreamError(f"{name} sent something that is not HTTP") from None


def _is_aiohttp(error: BaseException | None) -> bool:
    """Whether this is an error of the transport below httpx, which httpx has no name for."""
    return type(error).__module__.partition(".")[0] == "aiohttp"
