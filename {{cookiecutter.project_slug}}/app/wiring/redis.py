"""Slots and rate budgets on Redis, shared by all processes of the service.

Without REDIS_URL each process has its share of them.
"""

from contextlib import AsyncExitStack

import structlog
from pydantic import AnyUrl, Secret
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.concurrency.limiter import ConcurrencyLimiter
from app.concurrency.redis_semaphore import RedisSemaphore
from app.ratelimit.redis_window import DEADLINE, RedisRateLimiter, connect
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring.limits import RateLimits, build_limits

CONNECT_TIMEOUT = 1.0

log = structlog.get_logger(__name__)


def _connect(url: Secret[AnyUrl], deadline: float) -> Redis:
    """Return a client, or name the setting whose URL redis-py does not accept."""
    try:
        return connect(str(url.get_secret_value()), deadline=deadline)
    except ValueError as error:
        raise ValueError(f"REDIS_URL: {error}") from None


async def slots_on_redis(
    limiter: ConcurrencyLimiter, name: str, limit: int, settings: Settings, stack: AsyncExitStack
) -> ConcurrencyLimiter:
    """Return a limiter like this one that shares `limit` slots; without REDIS_URL, this one."""
    if settings.redis_url is None:
        return limiter
    client = _connect(settings.redis_url, CONNECT_TIMEOUT)
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


async def limits_on_redis(
    limits: RateLimits, settings: Settings, stack: AsyncExitStack, metrics: Metrics
) -> RateLimits:
    """Move `limits` to Redis; without REDIS_URL they stay in this process.

    `metrics` show whether Redis is lost.
    """
    if settings.redis_url is None:
        log.warning("REDIS_URL is not set: each process has its share of all limits")
        return limits
    client = _connect(settings.redis_url, DEADLINE)
    await stack.enter_async_context(client)
    limiter = RedisRateLimiter(
        client,
        processes=settings.workers,
        deadline=DEADLINE,
        on_change=metrics.rate_limits_degraded,
    )
    return build_limits(settings, await stack.enter_async_context(limiter), processes=1)
