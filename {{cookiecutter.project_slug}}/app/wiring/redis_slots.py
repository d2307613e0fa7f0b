"""Slots on Redis, shared by all processes of the service, instead of a share for each process."""

from contextlib import AsyncExitStack

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.concurrency.limiter import ConcurrencyLimiter
from app.concurrency.redis_semaphore import RedisSemaphore
from app.ratelimit.redis_window import connect
from app.settings import Settings

CONNECT_TIMEOUT = 1.0


async def on_redis(
    limiter: ConcurrencyLimiter, name: str, limit: int, settings: Settings, stack: AsyncExitStack
) -> ConcurrencyLimiter:
    """Return a limiter like this one that shares `limit` slots; without REDIS_URL, this one."""
    if settings.redis_url is None:
        return limiter
    client = connect(str(settings.redis_url.get_secret_value()), deadline=CONNECT_TIMEOUT)
    client.set_retry(Retry(NoBackoff(), 1))  # a message may be repeated, as after a cut connection
    await stack.enter_async_context(client)
    shared = RedisSemaphore(
        client,
        name,
        limit,
        max_queue=limiter.max_queue,
        queue_timeout=limiter.queue_timeout,
        processes=settings.workers,
    )
    return await stack.enter_async_context(shared)
