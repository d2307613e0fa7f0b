"""The metrics behind `GET /metrics`, in Prometheus' text format.

Labels hold routes, methods and outcomes, never a client's input, so their number is bounded.

With several workers each response covers all of them: `python -m app` sets
PROMETHEUS_MULTIPROC_DIR, and prometheus_client then keeps every worker's values in files there.
The numbers of another worker's limiter are up to `REFRESH_INTERVAL` seconds old. Gauges of a
worker that died are left out, its counters stay.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app.concurrency.limiter import ConcurrencyLimiter
from app.llm.base import Usage

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
OUTCOMES = ("released", "refused", "timed_out", "abandoned")
REFRESH_INTERVAL = 1.0


class Metrics:
    """The metrics of this process, in a registry of their own."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter
        self._counted = limiter.snapshot()
        self._directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._registry = CollectorRegistry()
        self._requests = self._counter(
            "http_requests", "Requests answered", ("method", "route", "status")
        )
        self._first_byte = self._histogram("http_first_byte_seconds", "Time to the first byte")
        self._duration = self._histogram("http_request_duration_seconds", "Time to the last byte")
        self._tokens = self._counter("llm_tokens", "Tokens used", ("kind",))
        self._limit = self._gauge("llm_limit", "Provider calls allowed at once")
        self._in_flight = self._gauge("llm_in_flight", "Provider calls in flight")
        self._queued = self._gauge("llm_queued", "Requests that wait for a slot")
        self._waited = self._counter("llm_queue_wait_seconds", "Time waited for slots")
        self._slots = self._counter("llm_slot_requests", "Requests for a slot", ("outcome",))
        self._degraded = self._gauge("rate_limits_degraded", "Processes without shared limits")
        self._missing = self._counter(
            "retrieval_degraded", "Answers that lack a source", ("source",)
        )

    def _counter(self, name: str, meaning: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(name, meaning, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry, multiprocess_mode="livesum")

    def _histogram(self, name: str, meaning: str) -> Histogram:
        return Histogram(name, meaning, ("route",), buckets=SECONDS, registry=self._registry)

    def count_request(
        self, method: str, route: str, status: int, *, first_byte: float | None, duration: float
    ) -> None:
        """Note the end of a request; times are in seconds."""
        self._requests.labels(method, route, status).inc()
        self._duration.labels(route).observe(duration)
        if first_byte is not None:
            self._first_byte.labels(route).observe(first_byte)

    def count_usage(self, usage: Usage) -> None:
        """Note what an answer cost."""
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("completion").inc(usage.completion_tokens)

    def count_degraded(self, source: str) -> None:
        """Note an answer that lacks a source."""
        self._missing.labels(source).inc()

    def rate_limits_degraded(self, degraded: bool) -> None:
        """Note that this process keeps the rate limits alone, or no longer does."""
        self._degraded.set(degraded)

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Publish the limiter's numbers to the other workers while the context is open."""
        refreshing = asyncio.create_task(self._refresh())  # a group would wrap the block's errors
        try:
            yield
        finally:
            refreshing.cancel()
            await asyncio.wait([refreshing])

    async def _refresh(self) -> None:
        while self._directory:
            self._read_limiter()
            await asyncio.sleep(REFRESH_INTERVAL)

    def _read_limiter(self) -> None:
        before, now = self._counted, self._limiter.snapshot()
        self._counted = now
        self._limit.set(now.limit)
        self._in_flight.set(now.in_flight)
        self._queued.set(now.queued)
        self._waited.inc(now.waited - before.waited)
        for outcome in OUTCOMES:
            self._slots.labels(outcome).inc(getattr(now, outcome) - getattr(before, outcome))

    async def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        self._read_limiter()
        if self._directory:
            return await asyncio.to_thread(_text_of_all_workers, self._directory)
        return generate_latest(self._registry)


def _text_of_all_workers(directory: str) -> bytes:
    for pid in {int(path.stem.rpartition("_")[2]) for path in Path(directory).glob("gauge_*.db")}:
        try:
            os.kill(pid, 0)  # asks only whether it runs
        except ProcessLookupError:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
