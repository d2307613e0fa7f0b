"""Processes that share slots: real ones, and stand-ins for them in the process of the test.

Run as a program, it holds a slot until it is killed, or makes calls and counts them.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from redis import Redis as BlockingRedis
from redis.asyncio import Redis, RedisCluster

from app.concurrency.limiter import Slot
from app.concurrency.redis_semaphore import RedisSemaphore

NAME = "account"
PREFIX = f"slots:{{{NAME}}}:"
CALLS, CALLERS = 10, 8


def semaphore(client: Redis | RedisCluster, limit: int = 1, **options: Any) -> RedisSemaphore:
    """Make what a process opens."""
    settings = {"max_queue": 99, "queue_timeout": 20.0, "lease": 30.0, **options}
    return RedisSemaphore(client, NAME, limit, **settings)


@asynccontextmanager
async def started(job: str, socket: Path, limit: int, lease: float) -> AsyncIterator[Any]:
    """Start a process; kill it in the end."""
    arguments = (job, str(socket), NAME, str(limit), str(lease))
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.concurrency.on_redis.processes",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Return when the server's state is as it should be; TimeoutError if it never is."""
    async with asyncio.timeout(20.0):
        while not await holds():  # noqa: ASYNC110 -- the server has no event for it
            await asyncio.sleep(0.005)


async def waiting(redis: Redis | RedisCluster, processes: int) -> None:
    """Return when so many processes wait."""

    async def queued() -> bool:
        return int(await redis.zcard(PREFIX + "queue")) == processes

    await until(queued)


async def held(redis: Redis | RedisCluster) -> int:
    """Return how many slots are taken, as the server knows."""
    counts: Any = await redis.hvals(PREFIX + "held")
    return sum(map(int, counts))


async def released(redis: Redis | RedisCluster) -> None:
    """Return when the server knows that all slots are free."""

    async def free() -> bool:
        return await held(redis) == 0

    await until(free)


async def take(stack: AsyncExitStack, slots: RedisSemaphore) -> Slot:
    """Hold a slot until the stack is closed."""
    return await stack.enter_async_context(slots.slot())


async def in_flight(*semaphores: RedisSemaphore, total: int) -> list[int]:
    """Wait until so many slots are held; return how many by each, and never see more."""

    async def reached() -> bool:
        count = sum(slots.in_flight for slots in semaphores)
        assert count <= total
        return count == total

    await until(reached)
    return [slots.in_flight for slots in semaphores]


async def know_each_other(*semaphores: RedisSemaphore) -> bool:
    """Tell whether each process knows the others."""
    return all(slots.processes == len(semaphores) for slots in semaphores)


async def is_degraded(slots: RedisSemaphore, *, expected: bool) -> bool:
    """Tell whether this process is as expected."""
    return slots.degraded is expected


async def hold(slots: RedisSemaphore) -> None:
    """Hold a slot, say so, and stay."""
    async with slots.slot():
        print("holds", flush=True)  # noqa: T201
        await asyncio.sleep(60.0)


async def load(slots: RedisSemaphore, counter: BlockingRedis) -> None:
    """Make calls, some of which are cancelled; print the most in flight in all processes.

    They are counted without awaiting, since a cancel between command and reply would miscount.
    """
    highest = 0

    async def call() -> None:
        nonlocal highest
        for _ in range(CALLS):
            async with slots.slot():
                highest = max(highest, int(counter.incr("live")))
                try:
                    await asyncio.sleep(0.005)
                finally:
                    counter.decr("live")

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    for number, caller in enumerate(callers[::3]):
        await asyncio.sleep(0.01 * number)
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    print(highest, slots.snapshot().released)  # noqa: T201


async def main(job: str, socket: str, name: str, limit: int, lease: float) -> None:
    """Do the job on the slots of that name."""
    async with (
        Redis(unix_socket_path=socket) as redis,
        RedisSemaphore(redis, name, limit, max_queue=99, queue_timeout=60, lease=lease) as slots,
    ):
        counter = BlockingRedis(unix_socket_path=socket)
        await (hold(slots) if job == "hold" else load(slots, counter))


if __name__ == "__main__":
    job, socket, name, limit, lease = sys.argv[1:]
    asyncio.run(main(job, socket, name, int(limit), float(lease)))
