"""Tavily: web search, and web pages as Markdown; the same two methods as SERPpost's.

A vendor is one file: what it calls things, and what its own statuses mean. What holds for each
call is said in `vendor_http.py`.

Needs: `protocol.py`, `results.py`, `urls.py` and `vendor_http.py` beside it, with what they need.
Sources: https://docs.tavily.com/documentation/api-reference/endpoint/search and /extract;
https://help.tavily.com/articles/8645538886-understanding-http-errors (432, 433).
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import httpx

from .protocol import (
    BadAnswerError,
    BlockedPageError,
    EmptyPageError,
    OutOfCreditError,
    SearchResult,
    WebError,
)
from .results import results_of
from .urls import Resolver, URLCheck, check_public_url
from .vendor_errors import kind_by_words, words_of
from .vendor_http import Limiter, Options, VendorAPI

BASE_URL = "https://api.tavily.com"
MAX_QUERY = 400
"""Characters; a longer query is refused by the vendor, so it is cut."""
MAX_RESULTS = 20
LIMITS = {432: OutOfCreditError, 433: OutOfCreditError}


class TavilyClient:
    """A WebSearch and a PageReader; any number of calls may be under way. Times are in seconds."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        api_key: str,
        limiter: Limiter,
        base_url: str = BASE_URL,
        check: URLCheck | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._api = VendorAPI(
            client,
            name="Tavily",
            base_url=base_url,
            api_key=api_key,
            limiter=limiter,
            status_errors=LIMITS,
            **options,
        )
        self._check = check or partial(check_public_url, resolve=Resolver())

    async def search(self, query: str, *, limit: int) -> Sequence[SearchResult]:
        """Return up to `limit` results; see `WebSearch.search`."""
        body = {"query": query[:MAX_QUERY], "max_results": min(limit, MAX_RESULTS)}
        return (await self._api.post("/search", body, self._results))[:limit]

    async def markdown(self, url: str) -> str:
        """Return the page as Markdown; see `PageReader.markdown`."""
        body = {"urls": [await self._check(url)], "format": "markdown"}
        return await self._api.post("/extract", body, self._page)

    def _results(self, answer: object) -> Sequence[SearchResult]:
        return results_of(self._list(answer, "results"), text_in=("content",))

    def _page(self, answer: object) -> str:
        for item in self._list(answer, "results"):
            page = item.get("raw_content") if isinstance(item, dict) else None
            if isinstance(page, str) and page.strip():
                return page
        for failed in self._list(answer, "failed_results"):
            raise self._unread(words_of(failed))
        raise self._api.error(EmptyPageError, "found no text on the page")

    def _unread(self, words: str) -> WebError:
        kind = kind_by_words(words) or BlockedPageError
        return self._api.error(kind, "could not read the page", words)

    def _list(self, answer: object, name: str) -> Sequence[object]:
        items = answer.get(name, []) if isinstance(answer, dict) else None
        if not isinstance(items, list):
            raise self._api.error(BadAnswerError, f"sent an answer without {name}")
        return items
