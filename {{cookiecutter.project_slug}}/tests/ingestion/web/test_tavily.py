"""Tavily's two calls, and its own ways to fail; what all vendors share is tested elsewhere."""

import httpx
import pytest

from app.concurrency.limiter import ConcurrencyLimiter
from app.ingestion.protocol import (
    BadAnswerError,
    BadKeyError,
    BlockedPageError,
    EmptyPageError,
    ForbiddenURLError,
    OutOfCreditError,
    PageReader,
    SearchResult,
    TooLargeError,
    VendorUnavailableError,
    WebError,
    WebSearch,
)
from app.ingestion.tavily import TavilyClient
from tests.upstream import Script

from .fake_vendor import KEY, PAGE_URL, SAFETY, FakeVendor, answer, at_once, failure


@pytest.fixture
def tavily(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> TavilyClient:
    """Point a client at the fake vendor."""
    return TavilyClient(
        client,
        api_key=KEY,
        limiter=slots.slot,
        base_url=vendor.origin,
        retry=at_once(),
        attempt_timeout=SAFETY,
        total_timeout=SAFETY,
    )


async def test_it_can_stand_in_for_another(tavily: TavilyClient, vendor: FakeVendor) -> None:
    """It is a WebSearch and a PageReader, which is all that the service knows of a vendor."""
    search: WebSearch = tavily
    reader: PageReader = tavily
    vendor.script = answer({"results": []})
    assert list(await search.search("why?", limit=5)) == []
    await failure(reader.markdown(PAGE_URL), EmptyPageError)


async def test_a_search(tavily: TavilyClient, vendor: FakeVendor) -> None:
    """A search is asked for as its reference says, and no more results are taken than asked for."""
    result = {"title": "asyncio", "url": "https://docs.python.org/", "content": "A library"}
    vendor.script = answer({"query": "x", "results": [result | {"score": 0.9}] * 4})
    results = await tavily.search("what is asyncio?", limit=3)
    assert results == [SearchResult("asyncio", "https://docs.python.org/", "A library")] * 3
    (request,) = vendor.requests
    assert (request.path, request.json) == (
        "/search",
        {"query": "what is asyncio?", "max_results": 3},
    )
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_its_limits_are_kept(tavily: TavilyClient, vendor: FakeVendor) -> None:
    """A question of more than 400 characters would be refused, and so would 21 results."""
    vendor.script = answer({"results": []})
    await tavily.search("x" * 500, limit=50)
    assert vendor.requests[0].json == {"query": "x" * 400, "max_results": 20}


async def test_a_page(tavily: TavilyClient, vendor: FakeVendor) -> None:
    """A page is asked for as its reference says, and comes as Markdown."""
    vendor.script = answer({"results": [{"url": PAGE_URL, "raw_content": "# Hello"}]})
    assert await tavily.markdown(PAGE_URL) == "# Hello"
    (request,) = vendor.requests
    assert (request.path, request.json) == ("/extract", {"urls": [PAGE_URL], "format": "markdown"})


@pytest.mark.parametrize(
    ("script", "kind", "calls"),
    [
        (answer({"results": [{"raw_content": " "}]}), EmptyPageError, 1),
        (answer({"results": [], "failed_results": [{"error": "who knows"}]}), BlockedPageError, 1),
        (answer({"failed_results": [{"error": "timeout"}]}), VendorUnavailableError, 3),
        (answer({"results": "none"}), BadAnswerError, 1),
        (answer([]), BadAnswerError, 1),
        (answer({}, status=401), BadKeyError, 1),
        (answer({}, status=432), OutOfCreditError, 1),
        (answer({}, status=433), OutOfCreditError, 1),
        (answer({}, status=429), VendorUnavailableError, 3),
    ],
)
async def test_a_page_that_cannot_be_had(
    tavily: TavilyClient, vendor: FakeVendor, script: Script, kind: type[WebError], calls: int
) -> None:
    """Each of its ways to fail is one of the protocol's, and only what can heal is asked again."""
    vendor.script = script
    await failure(tavily.markdown(PAGE_URL), kind)
    assert vendor.counts.received == calls


async def test_a_page_that_must_not_be_fetched(tavily: TavilyClient, vendor: FakeVendor) -> None:
    """The vendor is not asked for what is not public."""
    await failure(tavily.markdown("http://169.254.169.254/"), ForbiddenURLError)
    assert vendor.counts.received == 0


async def test_limits_are_passed_on(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """What bounds a call is the caller's to say."""
    tavily = TavilyClient(
        client, api_key=KEY, limiter=slots.slot, base_url=vendor.origin, max_bytes=10
    )
    vendor.script = answer({"results": []})
    await failure(tavily.markdown(PAGE_URL), TooLargeError)
