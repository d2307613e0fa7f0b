"""The rate budgets on Redis, for all processes together."""

from contextlib import AsyncExitStack

import structlog

from app.ratelimit.redis_window import DEADLINE, RedisRateLimiter, connect
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring.limits import RateLimits, build_limits

log = structlog.get_logger(__name__)


async def limits_on_redis(
    limits: RateLimits,
    settings: Settings,
    stack: AsyncExitStack,
    metrics: Metrics,
    *,
    deadline: float = DEADLINE,
) -> RateLimits:
    """Move `limits` to Redis; without REDIS_URL they stay in this process.

    `deadline` is for how many seconds a call waits for Redis. `metrics` show whether it is lost.
    """
    if settings.redis_url is None:
        log.warning("REDIS_URL is not set: each process has its share of all limits")
        return limits
    client = connect(str(settings.redis_url.get_secret_value()), deadline=deadline)
    await stack.enter_async_context(client)
    limiter = RedisRateLimiter(
        client,
        processes=settings.workers,
        deadline=deadline,
        on_change=metrics.rate_limits_degraded,
    )
    return build_limits(settings, await stack.enter_async_context(limiter), processes=1)
