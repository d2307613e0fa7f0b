"""What `GET /metrics` says, in Prometheus' text format.

Counters and histograms of requests are kept as they end; the limiter's numbers
are read from it at the moment they are asked for. Labels hold routes and outcomes, never
a client's input, so that their number is bounded.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.concurrency.limiter import ConcurrencyLimiter
from app.llm.protocol import Usage

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
OUTCOMES = ("released", "refused", "timed_out", "abandoned")


class Metrics:
    """The service's metrics, in a registry of their own."""

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_LimiterNumbers(limiter))
        self._requests = Counter(
            "http_requests", "Requests answered", ("method", "route", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._first_byte = self._histogram("http_first_byte_seconds", "Time to the first byte")
        self._duration = self._histogram("http_request_seconds", "Time to the last byte")
        self._tokens = Counter("llm_tokens", "Tokens used", ("kind",), registry=self._registry)
        self._degraded = Gauge(
            "rate_limits_degraded", "1 while the shared window is lost", registry=self._registry
        )
        self._missing = Counter(
            "retrieval_degraded", "Answers that went without a source", ("source",),
            registry=self._registry,
        )  # fmt: skip

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
        """Note an answer that does without a source."""
        self._missing.labels(source).inc()

    def rate_limits_degraded(self, degraded: bool) -> None:
        """Note that this process keeps the rate limits alone, or no longer does."""
        self._degraded.set(degraded)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _LimiterNumbers(Collector):
    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter = limiter

    def collect(self) -> Iterator[Metric]:
        """Read the limiter's snapshot."""
        now = self._limiter.snapshot()
        yield GaugeMetricFamily("llm_limit", "Provider calls allowed at once", now.limit)
        yield GaugeMetricFamily("llm_in_flight", "Provider calls in flight", now.in_flight)
        yield GaugeMetricFamily("llm_queued", "Requests that wait for a slot", now.queued)
        yield CounterMetricFamily(
            "llm_queue_wait_seconds", "Time waited for slots, added up", now.waited
        )
        turns = CounterMetricFamily("llm_turns", "Turns by what became of them", labels=["outcome"])
        for outcome in OUTCOMES:
            turns.add_metric([outcome], getattr(now, outcome))
        yield turns
