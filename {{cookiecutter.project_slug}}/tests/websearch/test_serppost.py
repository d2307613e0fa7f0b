"""What SERPpost answers and what becomes of it: errors, retries, slots and the cache.

Everything runs on a virtual clock, without a socket.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.websearch.base import SearchResult, WebAccountError, WebError, WebUnavailableError
from app.websearch.serppost import CACHE_TTL, SerppostClient

from .fake_vendor import KEY, PAGE_URL, failure

OK = {"code": 0, "data": {"markdown": "# Hello"}}
RESULT = {"title": "asyncio", "url": "https://docs.python.org/", "content": "A library"}


class Vendor:
    """SERPpost behind a transport of httpx, and its slots."""

    def __init__(self) -> None:
        self.requests, self.times = list[httpx.Request](), list[float]()
        self.slots, self.held = list[str](), 0
        self.no_slot: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.say(OK)

    def say(self, *answers: object, status: int = 200, retry_after: str = "") -> None:
        """Answer with these bodies or errors one after another, the last for ever."""
        self._answers, self._status = list(answers), status
        self._headers = {"retry-after": retry_after}

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; one without a slot is a defect."""
        assert self.held
        self.requests.append(request)
        self.times.append(now())
        body = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await self.open.wait()
        if isinstance(body, Exception):
            raise body
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return httpx.Response(self._status, headers=self._headers, content=content)

    @asynccontextmanager
    async def slot(self, kind: str) -> AsyncIterator[None]:
        """Hold a slot."""
        self.slots.append(kind)
        if self.no_slot:
            raise self.no_slot
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


@pytest.fixture
async def vendor(monkeypatch: pytest.MonkeyPatch) -> Vendor:
    """Make a vendor; stamina reads the virtual clock."""
    monkeypatch.setattr("time.monotonic", asyncio.get_running_loop().time)
    return Vendor()


@pytest.fixture
async def web(vendor: Vendor) -> AsyncIterator[SerppostClient]:
    """Open a client of the vendor."""
    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(vendor)) as client,
        SerppostClient(client, api_key=KEY, slot=vendor.slot, base_url="http://vendor/") as web,
    ):
        yield web


async def test_calls_are_those_of_the_guide(web: SerppostClient, vendor: Vendor) -> None:
    """Both calls are sent under the key, each in a slot of its own kind."""
    assert await web.page(PAGE_URL) == "# Hello"
    vendor.say({"code": 0, "data": [RESULT, RESULT]})
    result = SearchResult("asyncio", "https://docs.python.org/", "A library")
    assert await web.search("Zürich \ud800?", limit=1) == (result,)
    page, search = vendor.requests
    assert (page.method, page.url.path, search.url.path) == ("POST", "/api/url", "/api/search")
    assert json.loads(page.content) == {"s": PAGE_URL, "t": "url", "b": True, "w": 3000}
    assert json.loads(search.content) == {"s": "Zürich \ud800?", "t": "google", "p": 1}
    assert page.headers["authorization"] == search.headers["authorization"] == f"Bearer {KEY}"
    assert vendor.slots == ["page", "search"]


def failed(code: int, words: str = "") -> dict[str, object]:
    """Return an error as SERPpost words it."""
    return {"code": code, "msg": words, "data": None}


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (200, failed(9999), WebError, "no text"),
        *((200, {"code": 0, "data": wrong}, WebError, "no text")
          for wrong in ({"markdown": " \n\t"}, {"markdown": 5}, ["# Hello"])),
        *((200, wrong, WebError, "not JSON with a numeric code")
          for wrong in (b"[]", b'{"data": 1}', b'{"code": "0"}', b"\xff", b"[" * 9999)),
        *((200, failed(code, f"ACME {KEY}"), WebAccountError, f"answered {code}: check the API key")
          for code in (401, 402, 403)),
        *((200, failed(1, words), WebAccountError, "answered 1: check the API key")
          for words in ("Invalid API key", "Unauthorized: ACME Ltd.", "No balance, try again")),
        *((200, failed(code, "no credits"), WebUnavailableError, f"answered {code}: it failed")
          for code in (-1001, 1010, 408, 425, 429, 500, 529)),
        *((200, failed(1, words), WebUnavailableError, "answered 1: it failed")
          for words in ("timeout", "no free lane", "blocked: too many requests")),
        (200, failed(1, "Blockchain monkeys"), WebError, "answered 1: Blockchain monkeys"),
        (401, {"msg": f"ACME {KEY}"}, WebAccountError, "answered 401"),
        (503, {}, WebUnavailableError, "answered 503"),
        (400, {"error": {"message": "out of credits"}}, WebAccountError, "answered 400"),
        (400, {"msg": f"no\n\x1b[31m {KEY}\u202e x"}, WebError, "400: no [31m … x"),
        (400, {"msg": "x" * 500}, WebError, "400: " + "x" * 200),
        (400, b"<h1>Blocked</h1>", WebError, "answered 400: no reason given"),
    ],
)  # fmt: skip
async def test_an_answer_has_its_error(
    web: SerppostClient, vendor: Vendor, status: int, body: object, kind: Any, message: str
) -> None:
    """Codes count before words; only what may heal is retried; words on accounts are not quoted."""
    vendor.say(body, status=status)
    error = str(await failure(web.page(PAGE_URL), kind))
    assert message in error
    assert "ACME" not in error
    assert len(error) < 250
    assert len(vendor.requests) == (3 if kind is WebUnavailableError else 1)


async def test_results_are_bounded_and_have_a_text(web: SerppostClient, vendor: Vendor) -> None:
    """What is no web page is left out; where there is no summary, the title must do."""
    good: dict[tuple[str, str], dict[str, Any]] = {
        ("asyncio", "d"): {"content": "", "snippet": None, "description": "d"},
        ("asyncio", "asyncio"): {"content": None},
        ("https://docs.python.org/", "A library"): {"title": None},
        ("x" * 300, "x" * 2000): {"title": "x" * 999, "content": "x" * 9999},
    }
    items = [5, RESULT | {"url": "javascript:alert(1)"}, *(RESULT | item for item in good.values())]
    vendor.say({"code": 0, "data": items + [RESULT] * 99}, {"code": 9999})
    results = await web.search("why?", limit=99)
    assert [(one.title, one.text) for one in results[:4]] == list(good)
    assert len(results) == 19
    assert await web.search("nothing", limit=5) == ()


@pytest.mark.parametrize(("retry_after", "least"), [("", 0), ("7", 7)])
async def test_retries_wait_without_a_slot(
    web: SerppostClient, vendor: Vendor, retry_after: str, least: float
) -> None:
    """The first retry is not immediate, and comes no sooner than SERPpost says."""
    vendor.say(failed(1010), httpx.ConnectError("refused"), OK, retry_after=retry_after)
    call = asyncio.create_task(web.page(PAGE_URL))
    await asyncio.sleep(0.2)
    assert (len(vendor.requests), vendor.held) == (1, 0)
    assert await call == "# Hello"
    first, second, third = vendor.times
    assert least + 0.25 <= second - first <= least + 0.75
    assert 0.5 <= third - second <= 1.0


async def test_how_long_a_call_takes(web: SerppostClient, vendor: Vendor) -> None:
    """An attempt has 30 s; after 60 s, or a wait that is too long, there is no further one."""
    vendor.say({}, status=503, retry_after="3600")
    assert (await failure(web.page(PAGE_URL), WebUnavailableError)).retry_after == 3600
    assert (len(vendor.requests), now()) == (1, 0.0)
    vendor.open.clear()
    assert "within 30 s" in str(await failure(web.page(PAGE_URL), WebUnavailableError))
    assert 60 < now() < 61
    assert (len(vendor.requests), vendor.held) == (3, 0)


async def test_errors_of_the_slot_pass_unchanged(web: SerppostClient, vendor: Vendor) -> None:
    """Having no slot is no failure of the vendor, and is not retried."""
    vendor.no_slot = TimeoutError()
    assert await failure(web.page(PAGE_URL), TimeoutError) is vendor.no_slot
    assert vendor.slots == ["page"]


async def test_searches_are_cached(web: SerppostClient, vendor: Vendor) -> None:
    """A search is paid for once in CACHE_TTL, whatever its limit; an error is not kept."""
    vendor.say(failed(1, "blocked"), {"code": 0, "data": [RESULT] * 9})
    await failure(web.search("why?", limit=3), WebError)
    assert [len(await web.search("why?", limit=limit)) for limit in (3, 5, 20)] == [3, 5, 9]
    assert len(vendor.requests) == 2
    await asyncio.sleep(CACHE_TTL)
    await web.search("why?", limit=3)
    assert len(vendor.requests) == 3


async def test_equal_searches_share_one(web: SerppostClient, vendor: Vendor) -> None:
    """A cancelled waiter disturbs nobody; after the last one, or at closing, the call ends."""
    vendor.open.clear()
    *waiters, left = [asyncio.create_task(web.search(text, limit=3)) for text in "aab"]
    for waiter, held in zip(waiters, (2, 1), strict=True):
        await asyncio.sleep(1)
        waiter.cancel()
        await asyncio.sleep(1)
        assert (waiter.cancelled(), vendor.held) == (True, held)
    assert len(vendor.requests) == 2
    await web.__aexit__()
    assert vendor.held == 0
    await asyncio.wait([left])
    assert left.cancelled()
