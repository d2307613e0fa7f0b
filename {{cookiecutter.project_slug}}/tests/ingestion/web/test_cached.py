"""What was asked for a moment ago is not paid for again, and little of it is kept."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.ingestion.cached import CachedPages, CachedSearch
from app.ingestion.protocol import EmptyPageError, SearchResult


class Vendor:
    """A vendor that counts what it is asked."""

    def __init__(self, *, size: int = 10, failures: int = 0, found: int = 1) -> None:
        self.size, self.failures, self.found = size, failures, found
        self.asked: list[Any] = []

    async def search(self, query: str, *, limit: int) -> Sequence[SearchResult]:
        """Search."""
        self.asked.append((query, limit))
        return [SearchResult("title", "https://example.com/", "text")] * self.found

    async def markdown(self, url: str) -> str:
        """Read a page."""
        self.asked.append(url)
        await asyncio.sleep(1)
        if len(self.asked) <= self.failures:
            raise EmptyPageError("no text")
        return "x" * self.size


def now() -> float:
    """Tell the virtual time."""
    return asyncio.get_running_loop().time()


async def test_a_page_is_kept() -> None:
    """A page is read once, and again when it is an hour old."""
    vendor = Vendor()
    async with CachedPages(vendor, ttl=3600, timer=now) as pages:
        for _ in range(3):
            assert await pages.markdown("a") == "x" * 10
        await asyncio.sleep(3599)
        await pages.markdown("a")
        assert vendor.asked == ["a"]
        await asyncio.sleep(1)
        await pages.markdown("a")
        assert vendor.asked == ["a", "a"]


async def test_a_search_is_kept_under_its_words_and_its_limit() -> None:
    """A search for other words, or for more results, is another."""
    vendor = Vendor()
    async with CachedSearch(vendor, timer=now) as search:
        for query, limit in [("a", 3), ("a", 3), ("b", 3), ("a", 5), ("a", 3)]:
            assert len(await search.search(query, limit=limit)) == 1
    assert vendor.asked == [("a", 3), ("b", 3), ("a", 5)]


async def test_that_there_is_nothing_is_kept() -> None:
    """A search without results is an answer like others."""
    vendor = Vendor(found=0)
    async with CachedSearch(vendor, timer=now) as search:
        for _ in range(2):
            assert list(await search.search("a", limit=3)) == []
    assert len(vendor.asked) == 1


async def test_results_are_nobodys_to_change() -> None:
    """All callers get the same results, so they cannot be changed."""
    async with CachedSearch(Vendor(), timer=now) as search:
        assert isinstance(await search.search("a", limit=3), tuple)


async def test_equal_requests_share_a_call() -> None:
    """Whoever asks while a page is being read waits for it."""
    vendor = Vendor()
    async with CachedPages(vendor, timer=now) as pages:
        await asyncio.gather(*(pages.markdown("a") for _ in range(10)))
        assert (vendor.asked, now()) == (["a"], 1.0)


async def test_an_error_is_not_kept() -> None:
    """Who comes after a failure asks anew."""
    vendor = Vendor(failures=1)
    async with CachedPages(vendor, timer=now) as pages:
        with pytest.raises(EmptyPageError):
            await pages.markdown("a")
        assert await pages.markdown("a") == "x" * 10


async def test_entries_are_bounded() -> None:
    """The page that was not used for longest goes first, however small they are."""
    vendor = Vendor()
    async with CachedPages(vendor, max_entries=2, timer=now) as pages:
        for url in ["a", "b", "a", "c", "a", "b"]:
            await pages.markdown(url)
    assert vendor.asked == ["a", "b", "c", "b"]


async def test_searches_are_bounded() -> None:
    """The same goes for searches."""
    vendor = Vendor()
    async with CachedSearch(vendor, max_entries=2, timer=now) as search:
        for query in ["a", "b", "a", "c", "a", "b"]:
            await search.search(query, limit=3)
    assert [query for query, _ in vendor.asked] == ["a", "b", "c", "b"]


async def test_bytes_are_bounded() -> None:
    """Of pages of 40 kB two are kept in 100 kB."""
    vendor = Vendor(size=40_000)
    async with CachedPages(vendor, max_bytes=100_000, timer=now) as pages:
        for url in ["a", "b", "a", "c", "a", "b"]:
            await pages.markdown(url)
    assert vendor.asked == ["a", "b", "c", "b"]


async def test_a_page_too_large_to_keep_is_an_answer() -> None:
    """It is read again each time, and drives nothing else out."""
    vendor = Vendor()
    async with CachedPages(vendor, max_bytes=100_000, timer=now) as pages:
        await pages.markdown("small")
        vendor.size = 200_000
        for _ in range(2):
            assert len(await pages.markdown("large")) == 200_000
        await pages.markdown("small")
    assert vendor.asked == ["small", "large", "large"]
