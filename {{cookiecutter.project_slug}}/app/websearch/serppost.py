"""SERPpost's client: web search, and web pages as Markdown.

    async with SerppostClient(http, api_key=key, slot=slot) as web:
        results = await web.search("asyncio", limit=5)
        page = await web.page(results[0].url)

Guarantees: a call fails with a WebError or with what `slot` raised, after up to three attempts of
ATTEMPT_TIMEOUT each, none of which is repeated later than RETRY_TIMEOUT. `slot("search")` or
`slot("page")` is held for each attempt, not between attempts. Equal searches share one call and,
for CACHE_TTL, its answer; errors are not cached, nor are pages. The key is in no error.

Needs: async-lru, httpx, pydantic-core, stamina, and `base.py` and `urls.py` beside it.
Sources: https://serppost.com; its sister API https://www.searchcans.com/docs/ (search, codes).
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import islice
from random import uniform
from typing import Self

import httpx
import stamina
from async_lru import alru_cache
from pydantic_core import from_json

from app.errors import parse_retry_after

from .base import SearchResult, WebAccountError, WebError, WebUnavailableError
from .urls import check_url

ATTEMPT_TIMEOUT, RETRY_TIMEOUT, MAX_RETRY_AFTER = 30.0, 60.0, 20.0  # seconds
WAIT, JITTER = 0.25, 0.5
RETRY = stamina.AsyncRetryingCaller(3, RETRY_TIMEOUT, wait_initial=WAIT, wait_jitter=JITTER)
CACHE_TTL, MAX_SEARCHES = 300.0, 1_000
MAX_BYTES = 5_000_000  # of an answer
MAX_RESULTS, MAX_TITLE, MAX_URL, MAX_TEXT, MAX_WORDS = 20, 300, 2_000, 2_000, 200

SUCCESS, NO_RESULTS = 0, 9999
ACCOUNT = {401, 402, 403}
BUSY = {-1001, 1001, 1002, 1003, 1004, 1005, 1006, 1009, 1010}
TRANSIENT = {408, 425, 429, *range(500, 600), *BUSY}
ACCOUNT_WORDS = re.compile(
    r"(?i)\b(credits?|balance|quota|billing|payment|unauthori[sz]ed|(api|invalid).?(key|token))\b"
)
TRANSIENT_WORDS = re.compile(
    r"(?i)\b(timed?.?out|too many|rate.?limit|lanes?|slots?|busy|overload|unavailable|try again)"
)


class SerppostClient:
    """Calls SERPpost over the service's HTTP client, which it does not close."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        api_key: str,
        slot: Callable[[str], AbstractAsyncContextManager[object]],
        base_url: str = "https://serppost.com",
    ) -> None:
        self._client, self._base_url = client, base_url.rstrip("/")
        self._key, self._slot = api_key, slot
        self._headers = httpx.Headers({"authorization": f"Bearer {api_key}"})  # repr hides it
        self._headers.update({"content-type": "application/json", "accept-encoding": "identity"})
        self._cached_search = alru_cache(MAX_SEARCHES, ttl=CACHE_TTL)(self._search)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel the searches that are still in flight."""
        await self._cached_search.cache_close()

    async def search(self, query: str, *, limit: int) -> Sequence[SearchResult]:
        """Return up to `limit` results, best first; to find none is no error."""
        return (await self._cached_search(query))[:limit]

    async def page(self, url: str) -> str:
        """Return a page as Markdown, never empty."""
        body = {"s": check_url(url), "t": "url", "b": True, "w": 3000}
        data = await RETRY(_backoff, self._attempt, "page", "/api/url", body)
        page = data.get("markdown") if isinstance(data, dict) else data
        if not isinstance(page, str) or not page.strip():
            raise WebError("SERPpost found no text on the page")
        return page

    async def _search(self, query: str) -> tuple[SearchResult, ...]:
        body = {"s": query, "t": "google", "p": 1}
        data = await RETRY(_backoff, self._attempt, "search", "/api/search", body)
        if not isinstance(data, list | None):
            raise WebError("SERPpost sent search results that are not a list")
        items = (item for item in data or [] if isinstance(item, dict))
        return tuple(filter(None, map(_result, islice(items, MAX_RESULTS))))

    async def _attempt(self, kind: str, path: str, body: Mapping[str, object]) -> object:
        """Return the data of an answer, None if nothing was found; or raise a WebError."""
        async with self._slot(kind):
            response, content = await self._post(path, body)
        try:
            answer = dict(from_json(content))
        except (TypeError, ValueError):
            answer = {}
        code = answer.get("code") if response.is_success else response.status_code
        if not isinstance(code, int):
            raise WebError("SERPpost sent an answer that is not JSON with a numeric code")
        if code not in {SUCCESS, NO_RESULTS}:
            words = _words(answer).replace(self._key, "…")
            raise _error(code, words, parse_retry_after(response.headers.get("retry-after", "")))
        return answer.get("data") if code == SUCCESS else None

    async def _post(self, path: str, body: Mapping[str, object]) -> tuple[httpx.Response, bytes]:
        call = self._client.stream(
            "POST",
            self._base_url + path,
            content=json.dumps(body),
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=self._client.timeout.connect),
        )
        try:
            async with asyncio.timeout(ATTEMPT_TIMEOUT), call as response:
                return response, await _read(response)
        except WebError:
            raise
        except Exception as error:  # noqa: BLE001 -- transports have errors of their own
            problem = f"did not answer within {ATTEMPT_TIMEOUT:g} s ({type(error).__name__})"
        # Raised out here: as its cause, the other error would hold the request and so the key.
        raise WebUnavailableError(f"SERPpost cannot be reached, or {problem}")


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        if len(content) > MAX_BYTES:
            raise WebError(f"SERPpost sent more than the {MAX_BYTES} bytes allowed")
    return bytes(content)


def _backoff(error: Exception) -> bool | float:
    """Retry what may heal, after the wait that SERPpost asked for unless it is too long."""
    if not isinstance(error, WebUnavailableError) or error.retry_after is None:
        return isinstance(error, WebUnavailableError)
    wait = error.retry_after + uniform(WAIT, WAIT + JITTER)  # noqa: S311 -- no secret
    return error.retry_after <= MAX_RETRY_AFTER and wait


def _error(code: int, words: str, retry_after: float | None) -> WebError:
    """Return the error for a code or, if it is unknown, for the words; quote those on a page."""
    unknown = code not in ACCOUNT | TRANSIENT
    if code in ACCOUNT or (unknown and ACCOUNT_WORDS.search(words)):
        return WebAccountError(f"SERPpost answered {code}: check the API key and its credit")
    if code in TRANSIENT or TRANSIENT_WORDS.search(words):
        message = f"SERPpost answered {code}: it failed or is overloaded"
        return WebUnavailableError(message, retry_after=retry_after)
    return WebError(f"SERPpost answered {code}: {words[:MAX_WORDS] or 'no reason given'}")


def _words(answer: Mapping[str, object]) -> str:
    """Return the reason in an error as one line; "" if there is none."""
    reasons = map(answer.get, ("msg", "message", "error", "detail"))
    reason = str(next(filter(None, reasons), ""))
    return " ".join("".join(c if c.isprintable() else " " for c in reason).split())


def _result(item: dict[str, object]) -> SearchResult | None:
    """Read one result, bounded in length; None if it is no web page."""
    values = (item.get(name) for name in ("title", "url", "content", "snippet", "description"))
    title, url, *texts = (value.strip() if isinstance(value, str) else "" for value in values)
    text = next(filter(None, (*texts, title)), "")
    if not text or not url.startswith(("https://", "http://")) or len(url) > MAX_URL:
        return None
    return SearchResult((title or url)[:MAX_TITLE], url, text[:MAX_TEXT])
