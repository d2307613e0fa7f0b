"""One process of a crowd that calls under one budget, and prints what it was admitted.

    python -m tests.ratelimit.on_redis.crowd URL TASKS SEED

Runs for three windows; prints a JSON list of calls.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass

from app.ratelimit.base import Budget, RateLimited
from app.ratelimit.redis_window import RedisRateLimiter, connect

BUDGET = Budget("crowd", "tokens", 100_000, window=1.0)
REQUESTS = Budget("crowd", "requests", 10**6, window=1.0)
WINDOWS = 3


@dataclass
class Call:
    """An admitted call: when it was sent and answered (in seconds), and what it cost at least."""

    sent: float
    answered: float
    cost: int


async def member(limiter: RedisRateLimiter, dice: random.Random, calls: list[Call]) -> None:
    """Call as fast as the limiter admits."""
    end = time.monotonic() + WINDOWS * BUDGET.window * 61 / 60
    while (sent := time.monotonic()) < end:
        tokens = dice.randint(1, BUDGET.limit // 100)
        try:
            reservation = await limiter.reserve([BUDGET, REQUESTS], tokens=tokens)
        except RateLimited as refusal:
            await asyncio.sleep((refusal.retry_after or 0) * dice.random())
            continue
        calls.append(Call(sent, time.monotonic(), tokens))
        await asyncio.sleep(dice.uniform(0, 0.02))
        if dice.random() < 0.3:
            calls[-1].cost = tokens // 2
            reservation.settle(tokens=calls[-1].cost)


async def main(url: str, tasks: int, seed: str) -> None:
    """Call, then print the log."""
    calls: list[list[Call]] = [[] for _ in range(tasks)]
    async with (
        connect(url, deadline=10, max_connections=10) as client,
        RedisRateLimiter(client, deadline=10) as limiter,
        asyncio.TaskGroup() as group,
    ):
        for number, log in enumerate(calls):
            group.create_task(member(limiter, random.Random(f"{seed}.{number}"), log))
    sys.stdout.write(json.dumps([asdict(call) for log in calls for call in log]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
