"""Searches and pages that were asked for a moment ago, or are being asked for right now.

What costs a credit each time is asked for once: equal requests at the same time share one call,
and its answer is kept for a while. Errors are not kept.

    async with CachedSearch(vendor) as search, CachedPages(vendor) as pages:
        results = await search.search("asyncio", limit=5)

Guarantees: as many searches and as many bytes of pages are kept as is said here, at most; an
answer is at most `ttl` seconds old. What has not been used for longest goes first. Queries and
results are kept as they are: who asks bounds the former, `results.py` the latter.

Needs: cachetools, and `protocol.py` and `single_flight.py` beside it.
"""

import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from cachetools import TTLCache

from .protocol import PageReader, SearchResult, WebSearch
from .single_flight import SingleFlight

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class _Cached(Generic[Key, Answer]):
    """Answers by key, from the cache, from a call under way, or from a new call."""

    def __init__(self, cache: "TTLCache[Key, Answer, float]") -> None:
        self._cache = cache
        self._flights = SingleFlight[Key, Answer]()

    async def __aenter__(self) -> Self:
        await self._flights.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cache.clear()
        await self._flights.__aexit__(kind, error, traceback)

    async def _get(self, key: Key, call: Callable[[], Awaitable[Answer]]) -> Answer:
        kept = self._cache.get(key)
        return (
            kept if kept is not None else await self._flights.run(key, lambda: self._new(key, call))
        )

    async def _new(self, key: Key, call: Callable[[], Awaitable[Answer]]) -> Answer:
        answer = await call()
        if self._cache.getsizeof(answer) <= self._cache.maxsize:
            self._cache[key] = answer
        return answer


class CachedSearch(_Cached[tuple[str, int], tuple[SearchResult, ...]]):
    """A search that remembers up to `max_entries` results lists for `ttl` seconds."""

    def __init__(
        self,
        search: WebSearch,
        *,
        ttl: float = 300.0,
        max_entries: int = 1000,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(TTLCache(max_entries, ttl, timer))
        self._search = search

    async def search(self, query: str, *, limit: int) -> Sequence[SearchResult]:
        """Return up to `limit` results; see `WebSearch.search`."""

        async def ask() -> tuple[SearchResult, ...]:
            return tuple(await self._search.search(query, limit=limit))

        return await self._get((query, limit), ask)


class CachedPages(_Cached[str, str]):
    """A reader that remembers pages for `ttl` seconds.

    They are up to `max_entries`, and up to `max_bytes` in memory (a character takes 1 to 4): a
    small page counts as the part of `max_bytes` that is its share.
    """

    def __init__(
        self,
        reader: PageReader,
        *,
        ttl: float = 3600.0,
        max_entries: int = 1000,
        max_bytes: int = 50_000_000,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        def size(page: str) -> float:
            return max(sys.getsizeof(page), max_bytes / max_entries)

        super().__init__(TTLCache(max_bytes, ttl, timer, size))
        self._reader = reader

    async def markdown(self, url: str) -> str:
        """Return the page as Markdown; see `PageReader.markdown`."""
        return await self._get(url, lambda: self._reader.markdown(url))
