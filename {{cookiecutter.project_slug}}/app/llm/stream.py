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

    `first_token`: until the first chunk with content, reasoning included, from the call or from
    the last sign of life. `idle`: between two chunks after that. `total`: for the whole answer.
    """

    first_token: float
    idle: float
    total: float

    async def limit(self, name: str, stage: str, call: Awaitable[Result]) -> Result:
        """Await a call of the provider `name` for as long as `stage` allows."""
        try:
            async with asyncio.timeout(getattr(self, stage)):
                return await call
        except TimeoutError as error:
            raise self.too_slow(name, stage) from error

    def too_slow(self, name: str, stage: str) -> ProviderTimeoutError:
        """Build the error of a deadline that has passed."""
        seconds: float = getattr(self, stage)
        return ProviderTimeoutError(
            f"{name} passed the {stage} deadline of {seconds:g} s", stage=stage
        )


@asynccontextmanager
async def timed(
    provider: Provider, request: JSONObject, deadlines: Deadlines
) -> AsyncIterator[ChunkStream]:
    """Open the provider's answer and wait for its first token; see `Provider.stream`."""
    async with AsyncExitStack() as stack:
        stream = _TimedStream(provider.name, deadlines)
        stack.callback(stream.close)
        await stream.open(lambda: stack.enter_async_context(provider.stream(request)))
        yield stream


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
    """Iterate over a provider's chunks; raise ProviderTimeoutError when a deadline passes.

    The timer looks now and then how long the wait has lasted. Close it when the consumer leaves;
    closing the chunks is their owner's.
    """

    def __init__(self, name: str, deadlines: Deadlines) -> None:
        self._name = name
        self._deadlines = deadlines
        self._stage = "first_token"
        self._opening: list[Chunk] | None = None
        self._waits = Interruptible()
        self._loop = asyncio.get_running_loop()
        self._waiting_since = self._loop.time()
        self._ends_at = self._waiting_since + deadlines.total
        self._set_timer()

    async def open(self, connect: Callable[[], Awaitable[ChunkStream]]) -> None:
        """Read up to the first chunk with content, or the end of an empty answer."""
        self._chunks = await self._waits.wait(connect)
        opening: list[Chunk] = []
        async for batch in self:
            opening += batch
            if any(chunk.has_content for chunk in batch):
                break
        self._opening, self._stage = opening, "idle"
        self._timer.cancel()
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

    def _silent_until(self) -> float:
        longest: float = getattr(self._deadlines, self._stage)
        return self._waiting_since + longest

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(min(self._silent_until(), self._ends_at), self._check)

    def _check(self) -> None:
        now = self._loop.time()
        if not self._waits.waiting:
            self._waiting_since = now  # the consumer is the slow one
        if now >= self._ends_at:
            self._waits.interrupt(self._deadlines.too_slow(self._name, "total"))
        elif now >= self._silent_until():
            self._waits.interrupt(self._deadlines.too_slow(self._name, self._stage))
        else:
            self._set_timer()
