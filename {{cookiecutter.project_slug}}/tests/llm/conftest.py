"""What the tests of this folder share: a client, and virtual time where time matters."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cache

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


@pytest.fixture(autouse=True, scope="package")
def certificates_are_loaded_once() -> Iterator[None]:
    """Share one SSL context: loading its certificates takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Open the service's own HTTP client."""
    async with build_http_client(max_connections=50, connect_timeout=5) as opened:
        yield opened


@pytest.fixture
def openai(client: httpx.AsyncClient, upstream: FakeUpstream) -> OpenAIProvider:
    """Point the adapter at the fake upstream."""
    return OpenAIProvider(client, base_url=upstream.base_url, api_key=KEY)
