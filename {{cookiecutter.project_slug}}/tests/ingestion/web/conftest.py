"""What the tests of this folder share: a vendor, a client, slots; virtual time for the rest."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import pytest

from app.concurrency.limiter import ConcurrencyLimiter
from tests.concurrency.virtual_time import VirtualTimeLoop

from .fake_vendor import NO_TLS, FakeVendor

IN_VIRTUAL_TIME = {"test_cached", "test_retry", "test_single_flight"}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the event loop of a test; one that talks to a socket needs the real clock."""
    virtual = item.path.stem in IN_VIRTUAL_TIME
    return {"loop": VirtualTimeLoop if virtual else asyncio.new_event_loop}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Open a plain httpx client."""
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as opened:
        yield opened


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    """Run a fake vendor; set its `script`."""
    async with FakeVendor() as running:
        yield running


@pytest.fixture
def slots() -> ConcurrencyLimiter:
    """Make the account's request slots."""
    return ConcurrencyLimiter(68, max_queue=1000, queue_timeout=60.0)
