"""A process of the service: holds slots until it is killed, or makes calls and counts them."""

import asyncio
import sys

from redis.asyncio import Redis

from app.concurrency.redis_semaphore import RedisSemaphore

CALLS, CALLERS = 10, 8


async def hold(slots: RedisSemaphore) -> None:
    """Hold a slot, say so, and stay."""
    async with slots.slot():
        print("holds", flush=True)  # noqa: T201
        await asyncio.sleep(60.0)


async def load(slots: RedisSemaphore, redis: Redis) -> None:
    """Make calls, some of which are cancelled; print the most in flight in all processes."""
    highest = 0

    async def call() -> None:
        nonlocal highest
        for _ in range(CALLS):
            async with slots.slot():
                highest = max(highest, await redis.incr("live"))
                try:
                    await asyncio.sleep(0.005)
                finally:
                    await redis.decr("live")

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
        await (hold(slots) if job == "hold" else load(slots, redis))


if __name__ == "__main__":
    job, socket, name, limit, lease = sys.argv[1:]
    asyncio.run(main(job, socket, name, int(limit), float(lease)))
