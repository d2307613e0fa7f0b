"""Tell somebody how a provider bears its load: which calls it served, and which were too many.

What counts as too many is the provider's 429, 503 and 529, and a first token that does not come
in time. A client that left, a request that was bad and a stream that broke say nothing about load.

Needs: `base.py` beside it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from .base import (
    ChunkStream,
    JSONObject,
    Provider,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderTimeoutError,
)


class Ceiling(Protocol):
    """Who wants to know; `started_at` is the loop time at which the call began."""

    def on_success(self, started_at: float) -> None:
        """Note that the provider served a call."""
        ...

    def on_overload(self, started_at: float, retry_after: float | None) -> None:
        """Note that the provider had too much to do, and how many seconds it asks to wait."""
        ...


@dataclass(frozen=True, slots=True)
class SharedCeiling:
    """What one of several providers tells the ceiling that all of them share.

    The limit falls only when the last of the list is overloaded, as nobody is left then who could
    answer, and rises with whatever any of them serves: lowered for an earlier one, it would keep
    calls from the next. Advice to wait pauses nothing here: `router.py` leaves each alone.
    """

    ceiling: Ceiling
    is_last: bool

    def on_success(self, started_at: float) -> None:
        """Pass it on."""
        self.ceiling.on_success(started_at)

    def on_overload(self, started_at: float, retry_after: float | None) -> None:  # noqa: ARG002
        """Pass it on from the last, without its advice."""
        if self.is_last:
            self.ceiling.on_overload(started_at, None)


class FeedbackProvider:
    """Wrap a provider so that `ceiling` hears of each of its calls.

    Give it one that waits for the first token when a stream is opened, as `deadlines.py` does.
    """

    def __init__(self, provider: Provider, ceiling: Ceiling) -> None:
        self.name = provider.name
        self._provider = provider
        self._ceiling = ceiling

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open the answer; see `Provider.stream`."""
        async with AsyncExitStack() as stack:
            with self._observed():
                chunks = await stack.enter_async_context(self._provider.stream(request))
            yield chunks

    async def complete(self, request: JSONObject) -> JSONObject:
        """Answer in one piece; see `Provider.complete`."""
        with self._observed():
            return await self._provider.complete(request)

    async def embed(self, request: JSONObject) -> JSONObject:
        """Embed; see `Provider.embed`."""
        with self._observed():
            return await self._provider.embed(request)

    async def models(self) -> list[JSONObject]:
        """List the models, which is no load; see `Provider.models`."""
        return await self._provider.models()

    @contextmanager
    def _observed(self) -> Iterator[None]:
        started_at = asyncio.get_running_loop().time()
        try:
            yield
        except ProviderError as error:
            if _is_overload(error):
                self._ceiling.on_overload(started_at, error.retry_after)
            raise
        self._ceiling.on_success(started_at)


def _is_overload(error: ProviderError) -> bool:
    if isinstance(error, ProviderTimeoutError):
        return error.stage == "first_token"
    return isinstance(error, ProviderOverloadedError | ProviderRateLimitedError)
