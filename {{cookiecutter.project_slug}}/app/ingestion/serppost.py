"""SERPpost: web search, and web pages as Markdown.

    client = SerppostClient(http, api_key=key, limiter=ConcurrencyLimiter(68, ...).slot)
    results = await client.search("asyncio", limit=5)
    page = await client.markdown(results[0].url)

The plan allows a number of calls at once, its "request slots": `limiter` keeps to it. What else
holds for each call is said in `vendor_http.py`. Every search and every page is a credit: put
`cached.py` in front of this.

Needs: `protocol.py`, `results.py`, `urls.py` and `vendor_http.py` beside it, with what they need.
Sources: https://serppost.com (both calls, and the answer to a page). How search and errors are
answered is taken from the sister API at https://www.searchcans.com/docs/ and /error-codes/; what
is said there is accepted here, and other names for the same thing too.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, Unpack

import httpx

from .protocol import BadAnswerError, EmptyPageError, SearchResult, VendorUnavailableError
from .results import results_of
from .urls import Resolver, URLCheck, check_public_url
from .vendor_errors import STATUS_ERRORS, kind_of, words_of
from .vendor_http import Limiter, Options, VendorAPI

BASE_URL = "https://serppost.com"
TEXT = ("content", "snippet", "description")

SUCCESS = 0
NO_RESULTS = 9999
BUSY = (-1001, 1001, 1002, 1003, 1004, 1005, 1006, 1009, 1010)
"""Timeouts, too many calls, all lanes taken."""
CODES = {**STATUS_ERRORS, **dict.fromkeys(BUSY, VendorUnavailableError)}


class SerppostClient:
    """A WebSearch and a PageReader; any number of calls may be under way.

    `render_wait` is how long a page's scripts may run before it is read; all times are in seconds.
    `check` refuses pages that must not be fetched; without one, those that are not public.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        api_key: str,
        limiter: Limiter,
        base_url: str = BASE_URL,
        engine: Literal["google", "bing"] = "google",
        render_wait: float = 3.0,
        check: URLCheck | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._api = VendorAPI(
            client,
            name="SERPpost",
            base_url=base_url,
            api_key=api_key,
            limiter=limiter,
            **options,
        )
        self._engine = engine
        self._page_options = {"t": "url", "b": True, "w": round(render_wait * 1000)}
        self._check = check or partial(check_public_url, resolve=Resolver())

    async def search(self, query: str, *, limit: int) -> Sequence[SearchResult]:
        """Return up to `limit` results of the first page; see `WebSearch.search`."""
        body = {"s": query, "t": self._engine, "p": 1}
        return (await self._api.post("/api/search", body, self._results))[:limit]

    async def markdown(self, url: str) -> str:
        """Return the page as Markdown; see `PageReader.markdown`."""
        body = {"s": await self._check(url), **self._page_options}
        return await self._api.post("/api/url", body, self._page)

    def _results(self, answer: object) -> Sequence[SearchResult]:
        data = self._data(answer)
        if data is not None and not isinstance(data, list):
            raise self._api.error(BadAnswerError, "sent search results that are no list")
        return results_of(data or (), text_in=TEXT)

    def _page(self, answer: object) -> str:
        data = self._data(answer)
        page = data.get("markdown") if isinstance(data, dict) else data
        if page is not None and not isinstance(page, str):
            raise self._api.error(BadAnswerError, "sent a page that is no text")
        if not page or page.isspace():
            raise self._api.error(EmptyPageError, "found no text on the page")
        return page

    def _data(self, answer: object) -> object:
        """Return the data of a success, None where nothing was found; raise what else there is."""
        if not (isinstance(answer, dict) and isinstance(answer.get("code"), int)):
            raise self._api.error(BadAnswerError, "sent an answer without a code")
        code = answer["code"]
        if code == NO_RESULTS:
            return None
        if code != SUCCESS:
            words = words_of(answer)
            raise self._api.error(kind_of(code, words, CODES), f"answered with code {code}", words)
        return answer.get("data")
