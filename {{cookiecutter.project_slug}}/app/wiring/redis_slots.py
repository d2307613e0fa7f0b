"""The request slots of an account, leased on Redis for all processes.

While Redis is not reachable, each process goes on with its own share.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from app.concurrency.fleet import FleetSemaphore
from app.concurrency.protocol import QueueTimeout
from app.ratelimit.redis_client import connect
from app.settings import Settings

COMMAND_TIMEOUT = 5.0
"""Seconds; longer than those for which the semaphore blocks on Redis."""
SLOT_TIMEOUT = {"search": 15.0, "page": 600.0}
"""Seconds for which a call may wait for a slot of the fleet."""

Slots = Callable[[str], AbstractAsyncContextManager[object]]
"""Holds a slot for a "search" or a "page" while its block runs; LimiterError if none comes free."""


async def slots_on_redis(own: Slots, settings: Settings, stack: AsyncExitStack) -> Slots:
    """Acquire a slot on Redis after each slot of `own`; without REDIS_URL, those of `own` alone."""
    if settings.redis_url is None:
        return own
    client = connect(settings.redis_url.get_secret_value(), deadline=COMMAND_TIMEOUT)
    await stack.enter_async_context(client)
    limit = settings.serppost_request_slots
    fleet = await stack.enter_async_context(FleetSemaphore(client, "serppost", limit=limit))

    @asynccontextmanager
    async def slot(kind: str) -> AsyncIterator[None]:
        async with own(kind), AsyncExitStack() as held:
            try:
                if fleet.reachable:
                    await held.enter_async_context(fleet.slot(timeout=SLOT_TIMEOUT[kind]))
            except QueueTimeout:
                if fleet.reachable:  # all slots are taken; else Redis was lost meanwhile
                    raise
            yield

    return slot
