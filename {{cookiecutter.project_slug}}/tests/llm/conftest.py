"""What the tests of this folder share: a client, and virtual time where time matters."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import httpx
import pytest

from app.http.client import build_http_client
from app.llm.openai import OpenAIProvider
from tests.concurrency.virtual_time import VirtualTimeLoop
from tests.upstream import FakeUpstream

from . import KEY

IN_VIRTUAL_TIME = {"test_stream", "test_echo", "test_router"}


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the event loop of a test; one that talks to a socket needs the real clock."""
    virtual = item.path.stem in IN_VIRTUAL_TIME
    return {"loop": VirtualTimeLoop if virtual else asyncio.new_event_loop}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Open the service's own HTTP client."""
    async with build_http_client(max_connections=50, connect_timeout=5) as opened:
        yield opened


@pytest.fixture
def openai(client: httpx.AsyncClient, upstream: FakeUpstream) -> OpenAIProvider:
    """Point the adapter at the fake upstream."""
    return OpenAIProvider(client, base_url=upstream.base_url, api_key=KEY)
