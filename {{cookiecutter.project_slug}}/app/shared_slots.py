"""The slots of an account that counts its calls in flight, leased on Redis for all processes.

While Redis is away each process goes on with its own share.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from app.concurrency.fleet import FleetSemaphore
from app.concurrency.protocol import QueueTimeout
from app.ratelimit.redis_client import connect
from app.settings import Settings

Slots = Callable[[], AbstractAsyncContextManager[object]]
"""Returns what holds a slot while its block runs; LimiterError if there is none in time."""

COMMAND_DEADLINE = 5.0
"""Seconds; above those for which the semaphore listens for its turn."""


async def slots_on_redis(
    own: Slots, settings: Settings, stack: AsyncExitStack, wait: float
) -> Slots:
    """Take a slot of the fleet behind each of `own`; without REDIS_URL those of `own` alone.

    A call waits for a slot of the fleet for at most `wait` seconds.
    """
    if settings.redis_url is None:
        return own
    limit = settings.serppost_request_slots
    client = connect(settings.redis_url.get_secret_value(), deadline=COMMAND_DEADLINE)
    await stack.enter_async_context(client)
    fleet = await stack.enter_async_context(FleetSemaphore(client, "serppost", limit=limit))

    @asynccontextmanager
    async def slot() -> AsyncIterator[None]:
        async with own(), AsyncExitStack() as held:
            try:
                if fleet.reachable:
                    await held.enter_async_context(fleet.slot(timeout=wait))
            except QueueTimeout:
                if fleet.reachable:  # all are taken; else Redis went away meanwhile
                    raise
            yield

    return slot
