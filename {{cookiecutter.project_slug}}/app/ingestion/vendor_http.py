"""Calls to a vendor of searches and pages: JSON over a shared client, failures as WebErrors.

What every vendor needs, in one place: a slot for each attempt and for no longer, deadlines,
retries, a bound on the answer's size, and one error for each way to fail.

Guarantees:
- a call ends within `total_timeout` seconds, with an answer or a WebError: an attempt takes no
  longer than `attempt_timeout`, the waits for a slot and between attempts come on top;
- no more than `max_bytes` of an answer are read, counted after decompression;
- if the caller is cancelled, the connection is closed and the slot is given back at once;
- the key is in no error, no repr and no error's cause, also where the vendor quotes it. What it
  says about the key or the account is left out: errors reach users.

The client is the caller's and is never closed here.

Needs: httpx, pydantic-core (its JSON codec), and `body.py`, `protocol.py`, `retry.py` and
`vendor_errors.py` beside it.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from time import time
from typing import TypedDict, TypeVar

import httpx
from pydantic_core import from_json, to_json

from .body import ACCEPTED, read_up_to
from .protocol import (
    BadAnswerError,
    TooLargeError,
    VendorUnavailableError,
    WebBusyError,
    WebError,
)
from .retry import Retry, RetryBudget, retry_after_seconds
from .vendor_errors import STATUS_ERRORS, kind_of, words_of

Answer = TypeVar("Answer")

Limiter = Callable[[], AbstractAsyncContextManager[object]]
"""Returns what holds a slot while an attempt is under way. It is called once an attempt: no slot
is held while a call waits to try again. What it raises, having no slot or losing one, becomes a
WebBusyError, with its `retry_after` if it has one, and is not tried again."""


class Options(TypedDict, total=False):
    """What every vendor's class passes on to its VendorAPI, which says what it is."""

    retry: Retry | None
    attempt_timeout: float
    total_timeout: float
    max_bytes: int


MAX_ERROR_BODY = 64 * 1024
MAX_WORDS = 200


class VendorAPI:
    """One vendor's API: `name` for messages, where it is, its key, and its limits.

    Timeouts are in seconds. `status_errors` are statuses that mean something else here than
    elsewhere. ValueError for a key that no header can carry.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        name: str,
        base_url: str,
        api_key: str,
        limiter: Limiter,
        retry: Retry | None = None,
        attempt_timeout: float = 30.0,
        total_timeout: float = 60.0,
        max_bytes: int = 10_000_000,
        status_errors: Mapping[int, type[WebError]] | None = None,
    ) -> None:
        self.name = name
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._key = api_key
        self._headers = _headers(name, api_key)
        self._limiter = limiter
        self._retry = retry or Retry(RetryBudget())
        self._attempt_timeout, self._total_timeout = attempt_timeout, total_timeout
        # The client's read timeout is for other servers: here the whole attempt has one.
        self._timeouts = httpx.Timeout(None, connect=client.timeout.connect)
        self._max_bytes = max_bytes
        self._status_errors = {**STATUS_ERRORS, **(status_errors or {})}

    async def post(
        self, path: str, body: Mapping[str, object], read: Callable[[object], Answer]
    ) -> Answer:
        """POST JSON and return what `read` makes of the JSON that comes back.

        `read` raises a WebError for an answer that is none; one that heals is tried again.
        """
        try:
            content = to_json(body)
        except ValueError as error:  # half a surrogate pair, as a rule
            raise BadAnswerError(f"{self.name}: the request is no valid Unicode") from error

        async def attempt() -> Answer:
            return read(self._parsed(await self._in_slot(path, content)))

        try:
            return await self._retry.run(attempt, within=self._total_timeout)
        except TimeoutError as error:
            raise self._too_slow(self._total_timeout) from error

    async def _in_slot(self, path: str, content: bytes) -> bytes:
        """Make one attempt: return the answer's body, if its status is a good one."""
        call_failed = False
        try:
            async with self._limiter():
                try:
                    return await self._in_time(path, content)
                except Exception:
                    call_failed = True
                    raise
        except Exception as error:
            if call_failed:
                raise
            retry_after = getattr(error, "retry_after", None)
            raise self.error(WebBusyError, "has no free slot", retry_after=retry_after) from error

    async def _in_time(self, path: str, content: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._attempt_timeout):
                return await self._sent(path, content)
        except TimeoutError as error:
            raise self._too_slow(self._attempt_timeout) from error
        except httpx.DecodingError as error:
            raise self.error(BadAnswerError, "sent something that is not gzip") from error
        except httpx.HTTPError as error:
            raise self.error(VendorUnavailableError, "cannot be reached, or broke off") from error
        except Exception as error:
            if not type(error).__module__.startswith("aiohttp."):
                raise
        # Out here, where aiohttp's error is no context: it holds the request's headers, so the key.
        raise self.error(VendorUnavailableError, "sent something that is not HTTP")

    async def _sent(self, path: str, content: bytes) -> bytes:
        call = self._client.stream(
            "POST",
            self._base_url + path,
            content=content,
            headers=self._headers,
            timeout=self._timeouts,
            follow_redirects=False,
        )
        async with call as response:
            if not response.is_success:
                raise await self._refusal(response)
            body = await read_up_to(self._max_bytes + 1, response)
        if len(body) > self._max_bytes:
            raise self.error(TooLargeError, f"sent more than the {self._max_bytes} bytes allowed")
        return body

    async def _refusal(self, response: httpx.Response) -> WebError:
        body = b""
        with suppress(httpx.HTTPError):  # the status has said the most of it
            body = await read_up_to(MAX_ERROR_BODY, response)
        words = words_of(_json_or_text(body))
        kind = kind_of(response.status_code, words, self._status_errors)
        retry_after = retry_after_seconds(response.headers.get("retry-after"), now=time())
        return self.error(kind, f"answered {response.status_code}", words, retry_after)

    def _parsed(self, body: bytes) -> object:
        try:
            return from_json(body)
        except ValueError as error:
            raise self.error(BadAnswerError, "sent something that is not JSON") from error

    def _too_slow(self, seconds: float) -> WebError:
        return self.error(VendorUnavailableError, f"did not answer within {seconds:g} s")

    def error(
        self, kind: type[WebError], happened: str, words: str = "", retry_after: float | None = None
    ) -> WebError:
        """Build an error that says who, what, and the vendor's own words if they are for users."""
        message = f"{self.name} {happened}"
        if words and kind.shows_words:
            message += f": {words.replace(self._key, '…')[:MAX_WORDS]}"
        return kind(message, retry_after=retry_after)


def _headers(vendor: str, key: str) -> httpx.Headers:
    # Checked here: whoever finds a bad header later quotes it, and the key with it.
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(f"the key for {vendor} must be printable ASCII, without spaces")
    # Unlike a dict, httpx.Headers has no credentials in its repr.
    headers = httpx.Headers({"authorization": f"Bearer {key}", "accept-encoding": ACCEPTED})
    headers["content-type"] = headers["accept"] = "application/json"
    return headers


def _json_or_text(body: bytes) -> object:
    """Parse an error's body; a proxy in between says it in plain text, or in HTML, not worth it."""
    try:
        return from_json(body)
    except ValueError:
        return "" if body.lstrip().startswith(b"<") else body.decode("utf-8", "replace")
