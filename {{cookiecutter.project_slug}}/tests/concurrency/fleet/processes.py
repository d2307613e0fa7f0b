"""Stand-ins for the processes of a fleet: a semaphore of its own each, all on one server."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from redis.asyncio import Redis, RedisCluster

from app.concurrency.fleet import FleetSemaphore

NAME = "account"
PREFIX = f"fleet:{{{NAME}}}:"


def process(
    redis: Redis | RedisCluster, *, limit: int = 1, lease: float = 30.0, poll: float = 60.0
) -> FleetSemaphore:
    """Make a semaphore; with this `poll`, whoever gets a slot in time has been woken."""
    return FleetSemaphore(redis, NAME, limit=limit, lease=lease, poll=poll)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the server's state is as it should be; TimeoutError if it never is."""
    async with asyncio.timeout(20.0):
        while not await condition():  # noqa: ASYNC110 -- the server has no event for it
            await asyncio.sleep(0.005)


async def processes_waiting(redis: Redis | RedisCluster, count: int) -> None:
    """Return when so many processes have queued."""

    async def queued() -> bool:
        return int(await redis.zcard(PREFIX + "turns")) == count

    await until(queued)


async def slots_taken(redis: Redis | RedisCluster, count: int) -> None:
    """Return when so many slots are taken."""

    async def taken() -> bool:
        return int(await redis.zcard(PREFIX + "slots")) == count

    await until(taken)


async def leases(redis: Redis | RedisCluster) -> dict[int, float]:
    """Return the tokens out and when their leases end, by the server's clock in ms."""
    holders: Any = await redis.zrange(PREFIX + "slots", 0, -1, withscores=True)
    return {int(holder.partition(b":")[2]): ends_at for holder, ends_at in holders}


async def take(stack: AsyncExitStack, fleet: FleetSemaphore) -> int:
    """Hold a slot until the stack is closed; return its token."""
    return (await stack.enter_async_context(fleet.slot(timeout=20.0))).token
