"""What one call costs: an estimate before it, the real usage after it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from app.llm.base import (
    Chunk,
    JSONObject,
    ProviderAuthenticationError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    Usage,
)
from app.ratelimit.estimate import estimate_prompt, estimate_text
from app.ratelimit.protocol import Reservation
from app.telemetry.metrics import Metrics

NOTHING_USED = (
    ProviderAuthenticationError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
)


def with_output_limit(request: JSONObject, most: int) -> JSONObject:
    """Bound a chat request that names no maximum of its own, so that its cost is bounded."""
    if "messages" not in request or request.get("max_completion_tokens"):
        return request
    return {**request, "max_tokens": request.get("max_tokens") or most}


class Meter:
    """Watches one call and settles its reservation once, by the best that is known.

    That is the usage the provider told; else, where the answer broke off, the
    estimate of the prompt and of what was received; nothing, where the provider refused; else the
    whole estimate, since unknown usage gives nothing back.
    """

    def __init__(self, reservation: Reservation, request: JSONObject, metrics: Metrics) -> None:
        self._reservation = reservation
        self._request = request
        self._metrics = metrics
        self._received: list[str] = []
        self._refused = False
        self._whole = False
        self.usage: Usage | None = None
        self.finish_reason = "stop"

    def watch(self, chunks: Iterable[Chunk]) -> None:
        """Note what came in."""
        for chunk in chunks:
            self._received.append(chunk.text or _said(chunk))
            self.usage = chunk.usage or self.usage
            if chunk.finish_reason:
                self.finish_reason, self._whole = chunk.finish_reason, True

    @contextmanager
    def noting_refusal(self) -> Iterator[None]:
        """Note it if the provider refuses what is called in this context."""
        try:
            yield
        except NOTHING_USED:
            self._refused = True
            raise

    def settle(self) -> None:
        """Replace the estimate by what is known, then count it; a budget waits for no metric."""
        self._reservation.settle(tokens=self._tokens_used())
        if self.usage is not None:
            self._metrics.count_usage(self.usage)

    def _tokens_used(self) -> int | None:
        if self.usage is not None:
            return self.usage.prompt_tokens + self.usage.completion_tokens
        if self._received and not self._whole:
            return estimate_prompt(self._request) + estimate_text("".join(self._received))
        return 0 if self._refused else None


def _said(chunk: Chunk) -> str:
    """Put together what a chunk without text says: a tool's call, reasoning."""
    choices = chunk.body.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return "".join(_strings([part for name, part in delta.items() if name != "role"]))


def _strings(said: object) -> Iterator[str]:
    if isinstance(said, str):
        yield said
    elif isinstance(said, dict | list):
        for part in said.values() if isinstance(said, dict) else said:
            yield from _strings(part)
