"""SERPpost's client over real sockets: what breaks, what is too large, and what is cancelled."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import stamina

from app.concurrency.limiter import ConcurrencyLimiter
from app.http import build_http_client
from app.websearch.base import WebError, WebUnavailableError
from app.websearch.serppost import SerppostClient
from tests.upstream import Action, Script

from .fake_vendor import KEY, PAGE_URL, FakeVendor, failure, page


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    """Run a fake vendor."""
    async with FakeVendor(page()) as running:
        yield running


@pytest.fixture
def slots() -> ConcurrencyLimiter:
    """Make the account's request slots."""
    return ConcurrencyLimiter(68, max_queue=1000, queue_timeout=60.0)


@pytest.fixture(params=["httpx", "aiohttp"])
async def web(
    request: pytest.FixtureRequest, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> AsyncIterator[SerppostClient]:
    """Open a client over either transport, as they fail in different ways; it retries at once."""
    if request.param == "httpx":
        client = httpx.AsyncClient(verify=False, limits=httpx.Limits())  # noqa: S501
    else:
        client = build_http_client(max_connections=200, connect_timeout=60.0)
    serppost = SerppostClient(client, api_key=KEY, slot=slots.slot, base_url=vendor.origin)
    with stamina.set_testing(True, attempts=2):
        async with client, serppost:
            yield serppost


@pytest.mark.parametrize(
    ("script", "message", "calls"),
    [
        (page(before_headers=Action.RESET), "cannot be reached, or broke off", 2),
        (page(at_byte={9: Action.CUT}), "cannot be reached, or broke off", 2),
        (page(before_headers=b"SSH-2.0-OpenSSH\r\n\r\n"), "cannot be reached, or broke off", 2),
        (page(gzip=True), "compressed its answer", 1),
        (page(status=302, headers={"location": "/elsewhere"}), "answered 302", 1),
        (Script(body=b"x" * 50_000_000), "more than the 5000000 bytes allowed", 1),
    ],
    ids=["reset", "cut", "not HTTP", "compressed", "redirect", "too large"],
)
async def test_what_goes_wrong_on_the_wire(
    web: SerppostClient, vendor: FakeVendor, script: Script, message: str, calls: int
) -> None:
    """Only a broken connection is retried; none is left open by an answer that is not read."""
    vendor.script = script
    kind = WebUnavailableError if calls > 1 else WebError
    assert message in str(await failure(web.page(PAGE_URL), kind))
    assert vendor.counts.received == calls
    vendor.script = page()
    assert await web.page(PAGE_URL) == "# Hello"
    assert vendor.requests[-1].headers["accept-encoding"] == "identity"
    await vendor.wait_until(lambda counts: counts.open_connections <= 1)


@pytest.mark.parametrize(
    "script", [page(before_headers=Action.HOLD), page(at_byte={3: Action.HOLD})]
)
async def test_cancelling_closes_the_connection_and_frees_the_slot(
    web: SerppostClient, vendor: FakeVendor, slots: ConcurrencyLimiter, script: Script
) -> None:
    """The vendor sees that the only one who waited is gone, before or within the answer."""
    vendor.script = script
    call = asyncio.create_task(web.page(PAGE_URL))
    await vendor.wait_held(1)
    assert slots.in_flight == 1
    call.cancel()
    await vendor.wait_aborted(1)
    await asyncio.wait([call])
    assert (call.cancelled(), slots.in_flight) == (True, 0)


async def test_all_slots_are_used_and_never_one_more(
    web: SerppostClient, vendor: FakeVendor
) -> None:
    """Of 150 pages 68 are fetched at once, all the time, over connections that are used again."""
    vendor.script = page(before_headers=Action.HOLD)
    async with asyncio.TaskGroup() as group:
        for number in range(150):
            group.create_task(web.page(f"{PAGE_URL}/{number}"))
        for received, held in ((68, 68), (136, 68), (150, 14)):
            await vendor.wait_received(received)
            await vendor.wait_held(held)
            vendor.release()
    assert (vendor.counts.peak, vendor.counts.completed) == (68, 150)
    assert vendor.counts.connections == 68
