"""The window on a real server keeps the contract, in one round trip and bounded memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.ratelimit.protocol import RateLimited, Reservation
from app.ratelimit.redis_window import RedisRateLimiter
from tests.ratelimit.contract import RateLimiterContract, Window, requests, tokens
from tests.ratelimit.on_redis.eventually import eventually
from tests.ratelimit.on_redis.quiet import Quiet
from tests.ratelimit.on_redis.server_clock import VIRTUAL_TIME, ServerClock, script_with


@pytest.fixture
async def quiet() -> Quiet:
    """Return what knows the limiter's tasks from those before it."""
    return Quiet()


@pytest.fixture
async def limiter(
    client: Redis, clock: ServerClock, quiet: Quiet
) -> AsyncIterator[RedisRateLimiter]:
    """Return a limiter on the test's clock."""
    async with RedisRateLimiter(
        client, deadline=5, clock=clock, script=script_with(VIRTUAL_TIME)
    ) as limiter:
        yield limiter


@pytest.fixture
def window(limiter: RedisRateLimiter, clock: ServerClock, quiet: Quiet) -> Window:
    """Return it as the contract takes it."""
    return Window(limiter, clock.advance, quiet)


class TestRedis(RateLimiterContract):
    """The contract, held by the window on a server."""


async def script_calls(client: Redis) -> int:
    """Return how many scripts were called since the statistics were reset."""
    statistics = await client.info("commandstats")
    return sum(
        statistics.get(f"cmdstat_{command}", {}).get("calls", 0) for command in ("evalsha", "eval")
    )


async def test_each_step_takes_one_round_trip(window: Window, client: Redis) -> None:
    """A decision over any budgets is one command, its settlement another; over none it is none."""
    await window.admits(tokens(100))
    await client.config_resetstat()
    budgets = [tokens(100), requests(9), tokens(50, "client"), requests(5, "client")]
    reservation = await window.admits(*budgets, tokens=10)
    assert await script_calls(client) == 1
    reservation.settle(tokens=5)
    await window.left(tokens(100))
    assert await script_calls(client) == 3
    (await window.admits()).settle(tokens=5)
    assert await script_calls(client) == 3


async def test_every_key_expires_and_carries_the_hash_tag(window: Window, client: Redis) -> None:
    """A ledger goes when its last second has left; all ledgers of a namespace share a slot."""
    reservation = await window.admits(tokens(100), requests(9, "a}b{c"), tokens=50)
    reservation.settle(tokens=60)
    window.limiter.correct(tokens(100, "other"), remaining=3)
    await window.left(requests(9, "a}b{c"))
    keys = [key async for key in client.scan_iter("*") if not key.startswith(b"clock:")]
    assert len(keys) == 3
    assert all(key.startswith(b"{ratelimit}:") for key in keys)
    for key in keys:
        assert 0 < await client.pttl(key) <= 61_000


async def test_memory_is_bounded_whatever_the_limit(
    window: Window, clock: ServerClock, client: Redis
) -> None:
    """A million tokens a minute, in every second of it, take less than 4 KB."""
    for _ in range(70):
        for cost in (999, 7001, 8390):
            reservation = await window.admits(tokens(1_000_000), tokens=cost)
            reservation.settle(tokens=cost - 1)
        await clock.advance(1)
    (key,) = [key async for key in client.scan_iter("*tokens*")]
    assert (await client.memory_usage(key) or 0) in range(500, 4096)


async def test_namespaces_are_apart(client: Redis) -> None:
    """Limiters of two namespaces share nothing, also with budgets of the same name."""
    async with (
        RedisRateLimiter(client, namespace="one", deadline=5) as one,
        RedisRateLimiter(client, namespace="two", deadline=5) as two,
    ):
        await one.reserve([tokens(10)], tokens=10)
        await two.reserve([tokens(10)], tokens=10)
        with pytest.raises(RateLimited):
            await one.reserve([tokens(10)], tokens=1)


async def test_script_is_sent_again_when_forgotten(window: Window, client: Redis) -> None:
    """A server that has forgotten its scripts gets this one again, and no call notices."""
    reservation = await window.admits(tokens(100), tokens=10)
    await client.script_flush()
    await window.admits(tokens(100), tokens=10)
    await client.script_flush()
    reservation.settle(tokens=3)
    assert await window.left(tokens(100)) == 87


@pytest.mark.parametrize("back", [0.5, 5, 59, 3600, 10**7])
async def test_clock_that_steps_back_admits_nothing_extra(
    window: Window, clock: ServerClock, back: float
) -> None:
    """When the server's clock steps back, nothing leaves the window early."""
    await window.admits(tokens(100), tokens=60)
    await clock.advance(30)
    late = await window.admits(tokens(100), tokens=40)
    await clock.advance(-back)
    late.settle(tokens=30)
    assert (await window.refuses(tokens(100), tokens=11)).remaining == 10
    await clock.advance(30.6)
    assert await window.left(tokens(100)) == 10


@pytest.mark.parametrize("back", [0.5, 5, 59, 3600, 10**7])
async def test_clock_that_steps_back_stops_nothing(
    window: Window, clock: ServerClock, back: float
) -> None:
    """After a step back the ledger goes on from its last booking, and `retry_after` is exact."""
    await window.admits(tokens(100), tokens=60)
    await clock.advance(20)
    await window.admits(tokens(100), tokens=40)
    await clock.advance(-back)
    refusal = await window.refuses(tokens(100), tokens=60)
    assert refusal.retry_after == pytest.approx(40.7)
    await clock.advance(40.6)
    await window.refuses(tokens(100), tokens=60)
    await clock.advance(0.1)
    await window.admits(tokens(100), tokens=60)


async def test_known_exhaustion_is_refused_without_a_round_trip(
    window: Window, clock: ServerClock, client: Redis
) -> None:
    """What is settled cannot come back early: until it leaves, refusals ask nobody."""
    for cost in (60, 40):
        (await window.admits(tokens(100), tokens=cost)).settle(tokens=cost)
        await clock.advance(10)
    asked = await window.refuses(tokens(100), tokens=70)
    await client.config_resetstat()
    known = await window.refuses(tokens(100), tokens=70)
    assert known.retry_after == pytest.approx(asked.retry_after)
    assert (known.remaining, known.budget) == (0, tokens(100))
    assert (await window.refuses(tokens(100), requests(5), tokens=50)).retry_after == 40.7
    await clock.advance(40.6)
    await window.refuses(tokens(100), tokens=50)
    assert await script_calls(client) == 0
    await clock.advance(0.1)
    await window.admits(tokens(100), tokens=50)


async def test_correction_is_certain(window: Window, client: Redis) -> None:
    """What the provider says is used up does not come back early either: nobody is asked again."""
    window.limiter.correct(tokens(100), remaining=0, reset=30)
    await window.refuses(tokens(100))
    await client.config_resetstat()
    await window.refuses(tokens(100))
    assert await script_calls(client) == 0


async def test_what_may_come_back_is_asked_for(window: Window) -> None:
    """What is only reserved may be given back at any moment, so the server is asked again."""
    reservation = await window.admits(tokens(100), tokens=100)
    await window.refuses(tokens(100), tokens=100)
    reservation.cancel()
    await window.admits(tokens(100), tokens=100)


async def test_raised_limit_opens_the_door(window: Window) -> None:
    """What is known of a budget holds for its limit of then, not for a new one."""
    (await window.admits(tokens(100), tokens=100)).settle(tokens=100)
    await window.refuses(tokens(100))
    await window.refuses(tokens(100))
    await window.admits(tokens(200), tokens=100)


async def test_correction_that_says_nothing_new_is_not_sent(window: Window, client: Redis) -> None:
    """A provider that sees as much left as the server said costs no round trip."""
    await window.admits(tokens(100), tokens=10)
    window.limiter.correct(tokens(100), remaining=50, reset=30)
    assert await window.left(tokens(100)) == 50
    await client.config_resetstat()
    window.limiter.correct(tokens(100), remaining=50, reset=30)
    window.limiter.correct(tokens(100), remaining=100, reset=30)
    await asyncio.sleep(0)
    assert await script_calls(client) == 0


async def test_correction_is_compared_with_the_last_answer(window: Window) -> None:
    """What came back since the last correction is what the next one is compared with."""
    reservation = await window.admits(tokens(100), tokens=60)
    window.limiter.correct(tokens(100), remaining=30)
    assert await window.left(tokens(100)) == 30
    reservation.cancel()
    assert await window.left(tokens(100)) == 90
    window.limiter.correct(tokens(100), remaining=70)
    assert await window.left(tokens(100)) == 70


async def test_caller_cancelled_while_asking_gives_back(admin: Redis, window: Window) -> None:
    """A caller that goes away in the middle of the round trip takes nothing with it."""
    await window.admits(tokens(100), tokens=10)
    await admin.client_pause(10_000, all=False)
    caller = asyncio.create_task(window.limiter.reserve([tokens(100), requests(9)], tokens=50))

    async def the_server_has_the_question() -> bool:
        return bool((await admin.info("clients"))["blocked_clients"] == 1)

    await eventually(the_server_has_the_question)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await admin.client_unpause()

    async def all_is_given_back() -> bool:
        return await window.left(tokens(100)) == 90 and await window.left(requests(9)) == 9

    await eventually(all_is_given_back)


async def test_caller_cancelled_at_the_answer_gives_back(window: Window) -> None:
    """Nor does one that is cancelled in any of the steps in which the answer reaches it."""

    async def all_is_given_back() -> bool:
        return await window.left(tokens(1000)) == 1000

    for steps in range(25):
        caller = asyncio.create_task(window.limiter.reserve([tokens(1000)], tokens=10))
        for _ in range(steps):
            await asyncio.sleep(0)
        caller.cancel()
        with suppress(asyncio.CancelledError):
            (await caller).cancel()  # it got its answer in time, so it is its to give back
        await eventually(all_is_given_back)


async def test_leaving_waits_for_what_was_settled(client: Redis) -> None:
    """Closing the limiter, also by an error, first sends every settlement."""

    async def settle_four_of_five_and_fail(limiter: RedisRateLimiter) -> None:
        async with limiter:
            for _ in range(4):
                (await limiter.reserve([tokens(100)], tokens=20)).settle(tokens=5)
            late.append(await limiter.reserve([tokens(100)], tokens=20))
            raise KeyError

    late: list[Reservation] = []
    first = RedisRateLimiter(client, deadline=5)
    with pytest.raises(KeyError):
        await settle_four_of_five_and_fail(first)
    late[0].settle(tokens=5)
    assert first.lost == 1
    async with RedisRateLimiter(client, deadline=5) as second:
        assert (await second.reserve([tokens(100)], tokens=0)).standings[0].remaining == 60


async def test_settling_into_a_lost_ledger_counts_what_was_used(
    window: Window, client: Redis
) -> None:
    """A ledger that the server lost is rebuilt by the settlements, and never goes below zero."""
    one, two = [await window.admits(tokens(100), tokens=40) for _ in range(2)]
    await client.delete("{ratelimit}:tier:tokens:60.0")
    one.settle(tokens=30)
    assert await window.left(tokens(100)) == 70
    two.cancel()
    assert await window.left(tokens(100)) == 70


async def test_charges_count_from_now_also_many_at_once(
    window: Window, limiter: RedisRateLimiter
) -> None:
    """What was admitted elsewhere is added to any number of budgets, also beyond their limits."""
    budgets = [tokens(100, f"client:{n}") for n in range(450)]
    await window.admits(budgets[0], tokens=90)
    await limiter.charge(dict.fromkeys(budgets, 30))
    refusals = [await window.refuses(budget, tokens=71) for budget in (budgets[1], budgets[-1])]
    assert [refusal.remaining for refusal in refusals] == [70, 70]
    assert (await window.refuses(budgets[0], tokens=1)).remaining == 0


async def test_client_that_repeats_commands_is_refused(client: Redis) -> None:
    """A client that repeats a command whose answer was lost would count it twice."""
    retrying = Redis(retry=Retry(NoBackoff(), 3))
    with pytest.raises(ValueError, match="retries commands"):
        RedisRateLimiter(retrying)
    await retrying.aclose()
