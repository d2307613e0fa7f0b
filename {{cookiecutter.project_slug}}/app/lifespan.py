"""What exists in a process, and in which order it opens and closes.

Each part is built once and passed to the requests as lifespan state. The parts close in reverse
order, also those that are open when a later one fails to open.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from app.clients import Keyring
from app.concurrency.adaptive import AdaptiveLimit
from app.concurrency.limiter import ConcurrencyLimiter
from app.drain import Drain
from app.llm.base import Provider
from app.ratelimit.memory import RateLimiter
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring.http import build_client
from app.wiring.limits import RateLimits, build_limits
from app.wiring.providers import build_provider
from app.wiring.redis import limits_on_redis, slots_on_redis  # optional: redis_rate_limiter
from app.wiring.retrieval import Retrieval, open_retrieval


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that requests use."""

    settings: Settings
    drain: Drain
    http: httpx.AsyncClient
    limiter: ConcurrencyLimiter
    limits: RateLimits
    provider: Provider
    keyring: Keyring
    retrieval: Retrieval
    metrics: Metrics


@asynccontextmanager
async def lifespan(settings: Settings) -> AsyncIterator[dict[str, Services]]:
    """Open everything; what is yielded is the state of each request."""
    async with AsyncExitStack() as stack:
        yield {"services": await open_services(settings, stack)}


async def open_services(settings: Settings, stack: AsyncExitStack) -> Services:
    """Open everything in order; `stack` closes it."""
    http = await stack.enter_async_context(build_client(settings))
    slots = settings.llm_max_concurrency
    limiter = ConcurrencyLimiter(
        slots // settings.workers,
        max_queue=settings.llm_max_queue,
        queue_timeout=settings.llm_queue_timeout,
    )
    share = slots_on_redis(limiter, "llm", slots, settings, stack)  # optional: redis_rate_limiter
    limiter = await share  # optional: redis_rate_limiter
    metrics = Metrics(limiter)
    await stack.enter_async_context(metrics.refreshing())
    limits = build_limits(settings, RateLimiter(), processes=settings.workers)
    limits = await limits_on_redis(limits, settings, stack, metrics)  # optional: redis_rate_limiter
    ceiling = AdaptiveLimit(limiter, maximum=limiter.limit)
    provider = build_provider(settings, http, ceiling=ceiling, limits=limits)
    retrieval = await stack.enter_async_context(open_retrieval(settings, metrics))
    drain = Drain(settings.drain_timeout)
    await stack.enter_async_context(drain.listening())
    return Services(
        settings=settings,
        drain=drain,
        http=http,
        limiter=limiter,
        limits=limits,
        provider=provider,
        keyring=Keyring(settings.api_keys),
        retrieval=retrieval,
        metrics=metrics,
    )
