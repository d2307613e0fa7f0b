"""SERPpost's client over real sockets: what breaks, and what is cancelled."""

import asyncio
from collections.abc import AsyncIterator

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


@pytest.fixture
async def web(vendor: FakeVendor, slots: ConcurrencyLimiter) -> AsyncIterator[SerppostClient]:
    """Open a client over the service's transport; it retries at once."""
    client = build_http_client(max_connections=200, connect_timeout=60.0)
    web = SerppostClient(client, api_key=KEY, slot=slots.slot, base_url=vendor.origin)
    with stamina.set_testing(True, attempts=2):
        async with client, web:
            yield web


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (page(at_byte={9: Action.CUT}), WebUnavailableError, "cannot be reached"),
        (page(before_headers=b"SSH-2.0\r\n\r\n"), WebUnavailableError, "cannot be reached"),
        (page(status=302, headers={"location": "/elsewhere"}), WebError, "answered 302"),
        (Script(body=b"x" * 50_000_000), WebError, "more than the 5000000 bytes allowed"),
    ],
    ids=["cut", "not HTTP", "redirect", "too large"],
)
async def test_what_goes_wrong_on_the_wire(
    web: SerppostClient, vendor: FakeVendor, script: Script, kind: type[WebError], message: str
) -> None:
    """Only a broken connection is retried; none is left open by an answer that is not read."""
    vendor.script = script
    assert message in str(await failure(web.page(PAGE_URL), kind))
    assert vendor.counts.received == (2 if kind is WebUnavailableError else 1)
    vendor.script = page()
    assert await web.page(PAGE_URL) == "# Hello"
    await vendor.wait_until(lambda counts: counts.open_connections <= 1)


async def test_cancelling_closes_the_connection_and_frees_the_slot(
    web: SerppostClient, vendor: FakeVendor, slots: ConcurrencyLimiter
) -> None:
    """The vendor sees that the only one who waited is gone, within the answer."""
    vendor.script = page(at_byte={3: Action.HOLD})
    call = asyncio.create_task(web.page(PAGE_URL))
    await vendor.wait_held(1)
    assert slots.in_flight == 1
    call.cancel()
    await vendor.wait_aborted(1)
    await asyncio.wait([call])
    assert (call.cancelled(), slots.in_flight) == (True, 0)
