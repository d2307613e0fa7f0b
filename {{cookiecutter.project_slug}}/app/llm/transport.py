"""What the adapters share: JSON and event streams over one httpx client, with typed errors.

Every failure of the network or of the provider becomes a ProviderError that says what a caller can
do. Messages name the provider and what was wrong, never headers, keys or answers. The client is the
caller's and is not closed here.

Needs: httpx, msgspec, `answer.py`, `base.py`, `failures.py` and `sse.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import KW_ONLY, dataclass
from typing import Any

import httpx
from msgspec.json import encode

from .answer import AnswerReader, mend, read_json
from .base import (
    BrokenStreamError,
    Chunk,
    ChunkStream,
    JSONObject,
    ProviderAuthenticationError,
    ProviderError,
    ProviderRejectedError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from .failures import error_details, error_kind, retry_after, says_why
from .sse import MAX_EVENT

JSON = {"content-type": "application/json"}
BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
"""Bytes that may come before JSON: a byte order mark and white space."""
MAX_ERROR_BODY = 64 * 1024
END_OF_BODY_GRACE = 0.25
"""Seconds to wait for the end of a body after the end mark."""

OnHeaders = Callable[[Mapping[str, str]], None]
"""Called with the headers of each response, whatever its status."""


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
    path: str = ""
    models_path: str = "/models"
    on_headers: OnHeaders | None = None

    def _headers(self) -> dict[str, str]:
        """Return the headers that carry the key, and others of the provider's own."""
        raise NotImplementedError

    def _body(self, request: JSONObject, *, stream: bool) -> JSONObject:
        """Translate an OpenAI chat body."""
        raise NotImplementedError

    def _reader(self) -> AnswerReader:
        """Return the reader of one streamed answer."""
        raise NotImplementedError

    def _completion(self, body: JSONObject) -> JSONObject:
        """Translate a whole answer into an OpenAI completion; raises ProviderError."""
        raise NotImplementedError

    def _model(self, model: JSONObject) -> JSONObject:
        """Translate a model."""
        return model

    def stream(self, request: JSONObject) -> AbstractAsyncContextManager[ChunkStream]:
        """Open a streamed answer; see `Provider.stream`."""
        return self._stream(self._body(request, stream=True))

    async def complete(self, request: JSONObject) -> JSONObject:
        """Request a whole answer; see `Provider.complete`."""
        body = self._body(request, stream=False)
        answered = await self._request("POST", self.path, body)
        with transport_errors(self.name):
            completion = self._completion(mend(self.parse(answered)))
            self._reader().whole(completion)  # raises if it is malformed or says nothing
        return completion

    async def models(self) -> list[JSONObject]:
        """List the models; see `Provider.models`. Some servers send the bare list, or null."""
        answered = await self._request("GET", self.models_path)
        with transport_errors(self.name):
            listed = mend(self._read_json(answered))
        if isinstance(listed, dict):
            if listed.get("error"):
                raise self.answer_error(listed)
            listed = listed.get("data")
        models = listed if isinstance(listed, list) else []
        return [self._model(model) for model in models if isinstance(model, dict)]

    def _url(self, path: str) -> str:
        """Join the base URL and a path."""
        return self.base_url.rstrip("/") + path

    @asynccontextmanager
    async def _stream(self, body: JSONObject) -> AsyncIterator[ChunkStream]:
        """POST `body` and decode the answer's events, one list of chunks a network read.

        Leaving the context closes the connection if the answer has not ended.
        """
        # Compression would hold tokens back until a block is full.
        accepted = {"accept": "text/event-stream", "accept-encoding": "identity"}
        headers = {**JSON, **self._headers(), **accepted}
        content = _encode(body)
        call = self.client.stream("POST", self._url(self.path), content=content, headers=headers)
        async with AsyncExitStack() as stack:
            with transport_errors(self.name):
                response = await stack.enter_async_context(call)
                received = _body(response)
                if not response.is_success:
                    self._check(response, await _read_bounded(received, MAX_ERROR_BODY))
                self._check(response, b"")
            yield await stack.enter_async_context(aclosing(self._chunks(received)))

    async def _chunks(self, body: AsyncIterator[bytes]) -> AsyncGenerator[list[Chunk]]:
        """Pass on what came before a failure in the same read, then raise it."""
        reader = self._reader()
        with transport_errors(self.name):
            received = await anext(body, b"")
            while received and not received.strip(BEFORE_JSON):  # until the answer is whole
                yield []
                received = await anext(body, b"")
            if received.lstrip(BEFORE_JSON).startswith((b"{", b"[")):
                # Not streamed. It is not requested, and paid, twice.
                whole = self.parse(received + await _read_bounded(body, MAX_EVENT))
                yield reader.whole(self._completion(mend(whole)))
                return
            while received:
                chunks, has_ended, failure = reader.feed(received)
                yield chunks  # an empty list is a sign of life
                if failure:
                    raise failure
                if has_ended:
                    await self._read_to_end(body)
                    return
                received = await anext(body, b"")
        # A clean end: the last event may lack its blank line, and the answer its end mark.
        chunks, has_ended, failure = reader.feed(b"\n\n")
        yield chunks
        if failure and not isinstance(failure, BrokenStreamError):  # that is half an event
            raise failure
        if not has_ended and not reader.is_finished:
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

    async def _request(self, method: str, path: str, body: JSONObject | None = None) -> bytes:
        """Send a plain request and return the body of its answer."""
        content = None if body is None else _encode(body)
        with transport_errors(self.name):
            response = await self.client.request(
                method, self._url(path), content=content, headers=JSON | self._headers()
            )
            self._check(response, response.content)
        return response.content

    def _read_json(self, data: bytes) -> Any:  # noqa: ANN401
        try:
            return read_json(data)
        except ValueError as error:
            raise BrokenStreamError(f"{self.name} sent something that is not JSON") from error

    def parse(self, data: bytes) -> JSONObject:
        """Parse a JSON object; anything else is an error in the provider's words."""
        body = self._read_json(data)
        if not isinstance(body, dict):
            raise self.answer_error(body)
        return body

    def _check(self, response: httpx.Response, content: bytes) -> None:
        """Report a response's headers, and raise the error of its status."""
        if self.on_headers:
            self.on_headers(response.headers)
        if response.is_success:
            return
        status = response.status_code
        details = error_details(content)
        error = self._error(error_kind(details, status), f"answered {status}", details)
        error.status = status
        if not isinstance(error, ProviderAuthenticationError):
            error.retry_after, error.has_retry_after = retry_after(response.headers)
        raise error

    def answer_error(self, body: object) -> ProviderError:
        """Build the error of an answer under status 200 that is or contains an error, or is none.

        Words outside of an error object are all that there is of an answer, so clients see them.
        """
        details = error_details(body)
        if not details.get("error") and not says_why(details):
            return BrokenStreamError(f"{self.name} sent no answer, and no reason")
        kind = error_kind(details)
        error = self._error(kind, "failed to answer", details)
        if kind is ProviderRejectedError and str(error.code).isdecimal():
            error.status = int(str(error.code))
        if kind is ProviderUnavailableError and not details.get("error"):
            error.public_message = str(error)
        return error

    def _error(
        self, kind: type[ProviderError], event: str, details: Mapping[str, Any]
    ) -> ProviderError:
        """Build an error with the provider's text, but not about credentials: it quotes the key."""
        message = f"{self.name} {event}"
        if kind is ProviderAuthenticationError:
            return kind(f"{message}: it refused the service's credentials")
        detail, code, param = (
            str(details.get(name) or "") for name in ("message", "code", "param")
        )
        if self.api_key:  # some servers quote it
            detail = detail.replace(self.api_key, "…")
        return kind(message, detail=detail, code=code or None, param=param or None)


def _encode(body: JSONObject) -> bytes:
    try:
        return encode(body)
    except (ValueError, RecursionError) as error:  # half a surrogate pair, or too deeply nested
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


async def _read_bounded(body: AsyncIterator[bytes], most: int) -> bytes:
    """Read a body up to a bound: it may be endless."""
    content = bytearray()
    async for received in body:
        content += received
        if len(content) >= most:
            break
    return bytes(content)


@contextmanager
def transport_errors(name: str) -> Iterator[None]:
    """Raise what httpx raises inside as errors of the provider `name`."""
    try:
        yield
    except RecursionError:
        raise BrokenStreamError(f"{name} sent JSON that is nested too deeply") from None
    except httpx.DecodingError as error:
        raise BrokenStreamError(f"{name}: cannot decompress the answer") from error
    except (httpx.ReadError, httpx.RemoteProtocolError) as error:
        raise BrokenStreamError(f"{name} sent no whole response", detail=str(error)) from error
    except httpx.TimeoutException as error:
        message = f"{name} could not be connected to in time"
        raise ProviderTimeoutError(message, stage="connect") from error
    except httpx.HTTPError as error:
        reason = f"{type(error).__name__}: {error}"  # names DNS, the socket, TLS or the proxy
        raise ProviderUnavailableError(f"{name} cannot be reached", detail=reason) from error
