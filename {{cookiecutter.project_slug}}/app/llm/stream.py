"""Deadlines for a provider's answer (first token, idle, total), at one timer a stream.

A silent provider must not hold a slot for ever. No timeout scope is open while the consumer has the
chunks, and nothing is armed for each chunk: `asyncio.timeout` round each wait would cost more CPU
than reading the chunk. Connecting is the HTTP client's deadline.

Needs: `base.py`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

from .base import Chunk, ChunkStream, JSONObject, Provider, ProviderTimeoutError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds a provider may take.

    `first_token`: from the call to the first chunk with content.
    `idle`: between two chunks after that. `total`: for the whole answer.
    """

    first_token: float
    idle: float
    total: float


class DeadlineProvider:
    """Wrap a provider so that it raises ProviderTimeoutError when it is too slow."""

    def __init__(self, provider: Provider, deadlines: Deadlines) -> None:
        self.name = provider.name
        self._provider = provider
        self._deadlines = deadlines

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open the answer and wait for its first token; see `Provider.stream`."""
        ends_at = asyncio.get_running_loop().time() + self._deadlines.total
        async with AsyncExitStack() as stack:
            stage = min("first_token", "total", key=self._seconds)
            chunks, opening = await self._within(stage, self._open(stack, request))
            timed = _TimedStream(opening, chunks, self._deadlines.idle, ends_at, self._too_slow)
            stack.callback(timed.close)
            yield timed

    async def _open(
        self, stack: AsyncExitStack, request: JSONObject
    ) -> tuple[ChunkStream, list[Chunk]]:
        """Read up to the first chunk with content, or the end of an empty answer."""
        chunks = await stack.enter_async_context(self._provider.stream(request))
        opening: list[Chunk] = []
        async for batch in chunks:
            opening += batch
            if any(chunk.has_content for chunk in batch):
                break
        return chunks, opening

    async def complete(self, request: JSONObject) -> JSONObject:
        """Answer within the total deadline; see `Provider.complete`."""
        return await self._within("total", self._provider.complete(request))

    async def embed(self, request: JSONObject) -> JSONObject:
        """Embed within the total deadline; see `Provider.embed`."""
        return await self._within("total", self._provider.embed(request))

    async def models(self) -> list[JSONObject]:
        """List the models within the first-token deadline; see `Provider.models`."""
        return await self._within("first_token", self._provider.models())

    async def _within(self, stage: str, call: Awaitable[Result]) -> Result:
        try:
            async with asyncio.timeout(self._seconds(stage)):
                return await call
        except TimeoutError as error:
            raise self._too_slow(stage) from error

    def _too_slow(self, stage: str) -> ProviderTimeoutError:
        return ProviderTimeoutError(
            f"{self.name} passed the {stage} deadline of {self._seconds(stage):g} s", stage=stage
        )

    def _seconds(self, stage: str) -> float:
        seconds: float = getattr(self._deadlines, stage)
        return seconds


class Interruptible:
    """The waits of one consumer, one at a time, which others can end.

    The rules of cancellation are those of `asyncio.timeout`: a cancel from outside is never
    swallowed, also when it comes together with the interruption.
    """

    def __init__(self) -> None:
        self._reason: Exception | None = None
        self._waiting: asyncio.Task[object] | None = None

    @property
    def waiting(self) -> bool:
        """Whether the consumer waits at the moment."""
        return self._waiting is not None

    def interrupt(self, reason: Exception) -> None:
        """End the present wait by raising `reason` in it, and every later one as it begins."""
        if self._reason is None:
            self._reason = reason
            if self._waiting is not None:
                self._waiting.cancel()

    async def wait(self, begin: Callable[[], Awaitable[Result]]) -> Result:
        """Await what `begin` returns; raises the reason of an interruption."""
        self._check()
        task = self._waiting = asyncio.current_task()
        assert task is not None  # noqa: S101 (only a task can await)
        cancels_before = task.cancelling()
        try:
            return await begin()
        except BaseException as error:
            if self._reason is None:
                raise
            ours_alone = task.uncancel() <= cancels_before
            if ours_alone and isinstance(error, asyncio.CancelledError):
                raise self._reason from None
            raise
        finally:
            self._waiting = None

    def _check(self) -> None:
        if self._reason is not None:
            raise self._reason


class _TimedStream:
    """Iterate over `opening`, then `chunks`; raise `too_slow(stage)` when a deadline passes.

    `idle` is how many seconds the provider may be silent while the consumer waits for it, `ends_at`
    the loop time at which the answer must be whole. The timer looks now and then how long the wait
    has lasted. Close it when the consumer leaves; closing the chunks is their owner's.
    """

    def __init__(
        self,
        opening: list[Chunk],
        chunks: ChunkStream,
        idle: float,
        ends_at: float,
        too_slow: Callable[[str], Exception],
    ) -> None:
        self._opening: list[Chunk] | None = opening
        self._chunks = chunks
        self._idle = idle
        self._ends_at = ends_at
        self._too_slow = too_slow
        self._waits = Interruptible()
        self._loop = asyncio.get_running_loop()
        self._waiting_since = self._loop.time()
        self._set_timer()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Chunk]:
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return opening
        self._waiting_since = self._loop.time()
        return await self._waits.wait(self._chunks.__anext__)

    def close(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()

    def _set_timer(self) -> None:
        deadline = min(self._waiting_since + self._idle, self._ends_at)
        self._timer = self._loop.call_at(deadline, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if not self._waits.waiting:
            self._waiting_since = now  # the consumer is the slow one
        if now >= self._ends_at:
            self._waits.interrupt(self._too_slow("total"))
        elif now >= self._waiting_since + self._idle:
            self._waits.interrupt(self._too_slow("idle"))
        else:
            self._set_timer()
