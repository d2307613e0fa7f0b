"""SERPpost's two calls, as its guide shows them, and what it answers when something is wrong."""

import asyncio
from functools import partial
from typing import Any

import httpx
import pytest

from app.concurrency.limiter import ConcurrencyLimiter
from app.ingestion.cached import CachedPages, CachedSearch
from app.ingestion.protocol import (
    BadAnswerError,
    BadKeyError,
    BlockedPageError,
    EmptyPageError,
    ForbiddenURLError,
    OutOfCreditError,
    SearchResult,
    TooLargeError,
    VendorUnavailableError,
    WebError,
)
from app.ingestion.serppost import SerppostClient
from app.ingestion.urls import check_public_url
from tests.upstream import Action, Script

from .fake_vendor import (
    KEY,
    PAGE_URL,
    PATIENT,
    SAFETY,
    FakeVendor,
    answer,
    at_once,
    each,
    failed,
    failure,
    page,
    success,
)

RESULT = {"title": "asyncio", "url": "https://docs.python.org/", "content": "A library"}


def serppost_at(
    base_url: str, client: httpx.AsyncClient, slots: ConcurrencyLimiter, **options: Any
) -> SerppostClient:
    """Make a client of the fake vendor."""
    options = {"retry": at_once(), **PATIENT, **options}
    return SerppostClient(client, api_key=KEY, limiter=slots.slot, base_url=base_url, **options)


@pytest.fixture
def serppost(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> SerppostClient:
    """Point a client at the fake vendor."""
    return serppost_at(vendor.origin, client, slots)


async def test_a_page(serppost: SerppostClient, vendor: FakeVendor) -> None:
    """A page is asked for as the guide says, under the key, and comes as Markdown."""
    vendor.script = page("# Hello\n\nwörld\n")
    assert await serppost.markdown(PAGE_URL) == "# Hello\n\nwörld\n"
    (request,) = vendor.requests
    assert (request.method, request.path) == ("POST", "/api/url")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json == {"s": PAGE_URL, "t": "url", "b": True, "w": 3000}


@pytest.mark.parametrize("engine", ["google", "bing"])
async def test_a_search(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter, engine: Any
) -> None:
    """A search is asked for as the guide says; its results come in the vendor's order."""
    vendor.script = success([RESULT, RESULT | {"title": "second"}])
    serppost = serppost_at(vendor.origin, client, slots, engine=engine)
    results = await serppost.search("what is asyncio?", limit=5)
    assert results == [
        SearchResult("asyncio", "https://docs.python.org/", "A library"),
        SearchResult("second", "https://docs.python.org/", "A library"),
    ]
    (request,) = vendor.requests
    assert request.path == "/api/search"
    assert request.json == {"s": "what is asyncio?", "t": engine, "p": 1}


async def test_no_more_results_than_asked_for(serppost: SerppostClient, vendor: FakeVendor) -> None:
    """The vendor sends a whole page of results, of which the best are taken."""
    vendor.script = success([RESULT] * 10)
    assert len(await serppost.search("why?", limit=3)) == 3


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"content": "a"}, "a"),
        ({"snippet": "b"}, "b"),
        ({"description": "c"}, "c"),
        ({"content": "", "snippet": None, "description": "c"}, "c"),
        ({}, "asyncio"),
    ],
)
async def test_a_result_says_something(
    serppost: SerppostClient, vendor: FakeVendor, item: dict[str, object], text: str
) -> None:
    """Its text is under any of three names, and where it has none, its title must do."""
    vendor.script = success([{"title": "asyncio", "url": "https://docs.python.org/"} | item])
    assert [result.text for result in await serppost.search("why?", limit=5)] == [text]


@pytest.mark.parametrize(
    "item", ["text", None, {"title": "no URL"}, RESULT | {"url": "javascript:alert(1)"}]
)
async def test_what_is_no_result_is_left_out(
    serppost: SerppostClient, vendor: FakeVendor, item: object
) -> None:
    """One result that is none, or leads to no page, does not spoil the others."""
    vendor.script = success([item, RESULT])
    assert [result.title for result in await serppost.search("why?", limit=5)] == ["asyncio"]


@pytest.mark.parametrize("script", [success([]), success(None), failed(9999, "no results")])
async def test_a_search_may_find_nothing(
    serppost: SerppostClient, vendor: FakeVendor, script: Script
) -> None:
    """That nothing was found is an answer, and no error."""
    vendor.script = script
    assert list(await serppost.search("why?", limit=5)) == []


@pytest.mark.parametrize("markdown", ["", " \n\t", None])
async def test_an_empty_page(
    serppost: SerppostClient, vendor: FakeVendor, markdown: object
) -> None:
    """A page without a word is an error of its own, and is not asked for again."""
    vendor.script = page(markdown)
    await failure(serppost.markdown(PAGE_URL), EmptyPageError)
    assert vendor.counts.received == 1


@pytest.mark.parametrize(
    ("code", "words", "kind", "calls"),
    [
        (401, "Unauthorized", BadKeyError, 1),
        (1, "Invalid API key", BadKeyError, 1),
        (402, "pay", OutOfCreditError, 1),
        (1, "Insufficient credits", OutOfCreditError, 1),
        (1, "The page is blocked", BlockedPageError, 1),
        (1, "empty content", EmptyPageError, 1),
        (1, "who knows", BadAnswerError, 1),
        (500, "", VendorUnavailableError, 3),
        (-1001, "", VendorUnavailableError, 3),
        (1010, "", VendorUnavailableError, 3),
        (1, "timeout", VendorUnavailableError, 3),
    ],
)
async def test_an_error_under_http_200(
    serppost: SerppostClient,
    vendor: FakeVendor,
    code: int,
    words: str,
    kind: type[WebError],
    calls: int,
) -> None:
    """Another code than 0 is an error under any status; only what can heal is asked again."""
    vendor.script = failed(code, words)
    message = str(await failure(serppost.markdown(PAGE_URL), kind))
    assert message.startswith(f"SERPpost answered with code {code}")
    assert vendor.counts.received == calls


async def test_an_error_under_http_200_heals(serppost: SerppostClient, vendor: FakeVendor) -> None:
    """A lane that is taken now is free a moment later."""
    vendor.script = each(failed(1010, "no free lane"), page())
    assert await serppost.markdown(PAGE_URL) == "# Hello"


@pytest.mark.parametrize(
    "script",
    [
        answer([]),
        answer("text"),
        answer({"data": {"markdown": "# Hello"}}),
        answer({"code": "what?"}),
        page(["# Hello"]),
        success({"markdown": {"text": "# Hello"}}),
        Script(body=b"\xff"),
    ],
)
async def test_what_is_no_page(
    serppost: SerppostClient, vendor: FakeVendor, script: Script
) -> None:
    """JSON of another shape is a bad answer, whatever it is."""
    vendor.script = script
    await failure(serppost.markdown(PAGE_URL), BadAnswerError)


async def test_what_is_no_list_of_results(serppost: SerppostClient, vendor: FakeVendor) -> None:
    """So it is for a search."""
    vendor.script = page()
    await failure(serppost.search("why?", limit=5), BadAnswerError)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "file:///etc/passwd", "http://localhost/"])
async def test_a_page_that_must_not_be_fetched(
    serppost: SerppostClient, vendor: FakeVendor, url: str
) -> None:
    """The vendor is not asked for what is not public."""
    await failure(serppost.markdown(url), ForbiddenURLError)
    assert vendor.counts.received == 0


async def test_a_name_that_leads_inside(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """Nor for a public name whose address is not."""

    async def resolve(host: str) -> list[str]:
        return {"inside.example.com": ["10.0.0.1"], "example.com": ["93.184.216.34"]}[host]

    check = partial(check_public_url, resolve=resolve)
    serppost = serppost_at(vendor.origin, client, slots, check=check)
    vendor.script = page()
    await failure(serppost.markdown("http://inside.example.com/"), ForbiddenURLError)
    assert vendor.counts.received == 0
    await serppost.markdown("http://EXAMPLE.com./a")
    assert vendor.requests[-1].json["s"] == "http://example.com/a"


async def test_limits_are_passed_on(
    client: httpx.AsyncClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """What bounds a call is the caller's to say."""
    vendor.script = page()
    serppost = serppost_at(vendor.origin, client, slots, max_bytes=10)
    await failure(serppost.markdown(PAGE_URL), TooLargeError)


async def test_equal_requests_at_once_are_one_credit(
    serppost: SerppostClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """A hundred who ask for the same cost one call and one slot, and whoever comes later none."""
    vendor.script = answer({"code": 0, "data": {"markdown": "# Hello"}}, before_headers=Action.HOLD)
    async with CachedPages(serppost) as pages:
        asked = [asyncio.create_task(pages.markdown(PAGE_URL)) for _ in range(100)]
        await vendor.wait_held(1)
        assert slots.in_flight == 1
        vendor.release()
        assert set(await asyncio.gather(*asked)) == {"# Hello"}
        assert await pages.markdown(PAGE_URL) == "# Hello"
    assert vendor.counts.received == 1


async def test_the_last_who_leaves_hangs_up(
    serppost: SerppostClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """One call is shared until nobody waits for it; then its connection is closed."""
    vendor.script = answer({"code": 0, "data": []}, before_headers=Action.HOLD)
    async with CachedSearch(serppost) as search:
        first, last = [asyncio.create_task(search.search("why?", limit=3)) for _ in range(2)]
        await vendor.wait_held(1)
        first.cancel()
        await asyncio.wait([first], timeout=SAFETY)
        assert (slots.in_flight, vendor.counts.live) == (1, 1)
        last.cancel()
        await asyncio.wait([last], timeout=SAFETY)
        await vendor.wait_aborted(1)
    assert (vendor.counts.received, slots.in_flight) == (1, 0)
