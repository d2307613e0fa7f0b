"""One process of a crowd that hammers one budget on a server, and writes down what it got.

    python -m tests.ratelimit.on_redis.crowd URL TASKS SEED

follows the server's clock as `test_crowd` moves it, until that is stopped, and prints a JSON list
of calls: at which times of the ledger it was sent and answered, the tokens reserved, the
time when it was settled and the tokens used (null: it never was).
"""

import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass

from redis.asyncio import Redis

from app.ratelimit.protocol import Budget, RateLimited, Reservation
from app.ratelimit.redis_client import connect
from app.ratelimit.redis_window import RedisRateLimiter
from tests.ratelimit.on_redis.server_clock import VIRTUAL_TIME, script_with

BUDGET = Budget("crowd", "tokens", 1_000_000)
MOST = BUDGET.limit // 400
"""The most tokens of one call."""
EASY = 30_000_000
"""Microseconds of the ledger's time in which everybody calls but once at each move."""


@dataclass
class Call:
    """An admitted call."""

    sent: int
    answered: int
    reserved: int
    settled: int | None = None
    used: int | None = None


class Crowd:
    """Tasks that reserve, hold, and settle, cancel or forget."""

    def __init__(self, limiter: RedisRateLimiter, client: Redis, name: str, size: int) -> None:
        self._limiter = limiter
        self._client = client
        self._name = name
        self._size = size
        self._now = -1
        self._waiting = 0
        self._change = asyncio.Condition()
        self.calls: list[Call] = []

    async def follow(self) -> None:
        """Wake all when the clock has moved, tell when all wait; return when it is stopped."""
        while (text := await self._client.get("crowd:now")) != b"stop":
            if text is not None and int(text) != self._now:
                async with self._change:
                    self._now = int(text)
                    self._waiting = 0
                    self._change.notify_all()
            if self._waiting == self._size:
                await self._client.set(f"crowd:waiting:{self._name}", self._now)
            await asyncio.sleep(0.003)

    async def member(self, dice: random.Random) -> None:
        """Call until refused; try again when that may help."""
        while True:
            sent, tokens = self._now, dice.randint(1, MOST)
            try:
                reservation = await self._limiter.reserve([BUDGET], tokens=tokens)
            except RateLimited:
                await self._wait()
                continue
            self.calls.append(call := Call(sent, self._now, tokens))
            await asyncio.sleep(dice.uniform(0, 0.005))
            self._close(call, reservation, dice)
            async with self._change:
                self._change.notify()
            while self._now == sent < EASY:
                await self._wait()

    async def _wait(self) -> None:
        """Wait for a move of the clock, or for another's refund."""
        async with self._change:
            self._waiting += 1
            moved = self._now
            await self._change.wait()
            if moved == self._now:
                self._waiting -= 1

    def _close(self, call: Call, reservation: Reservation, dice: random.Random) -> None:
        end = dice.choices(["below", "exact", "above", "cancel", "forget"], [20, 10, 1, 5, 1])[0]
        if end == "forget":
            return
        part = {"below": dice.random(), "exact": 1, "above": 1.1, "cancel": 0}[end]
        call.settled, call.used = self._now, int(call.reserved * part)
        if end == "cancel":
            reservation.cancel()
        else:
            reservation.settle(tokens=call.used)


async def main(url: str, tasks: int, seed: str) -> None:
    """Hammer, then print the log."""
    client = connect(url, deadline=10, max_connections=10)
    script = script_with(VIRTUAL_TIME)
    async with RedisRateLimiter(client, deadline=10, script=script) as limiter:
        crowd = Crowd(limiter, client, seed, tasks)
        async with asyncio.TaskGroup() as group:
            members = [
                group.create_task(crowd.member(random.Random(f"{seed}.{number}")))
                for number in range(tasks)
            ]
            await crowd.follow()
            for member in members:
                member.cancel()
    await client.aclose()
    sys.stdout.write(json.dumps([asdict(call) for call in crowd.calls]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
