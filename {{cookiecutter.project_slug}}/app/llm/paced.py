"""The rest of an answer, under its idle and total deadlines, at the price of one timer.

Needs: `interruptible.py` and `base.py` beside it.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .base import Chunk, ChunkStream
from .interruptible import Interruptible


class PacedStream:
    """Iterate over `opening`, then `chunks`; raise `too_slow(stage)` when a deadline passes.

    `idle` is how many seconds the provider may be silent while somebody waits for it,
    `ends_at` the loop time at which the answer must be whole. Use it as a context manager. Its
    timer looks now and then how long the wait has lasted; nothing is armed for each chunk.
    """

    def __init__(
        self,
        opening: list[Chunk],
        chunks: ChunkStream,
        *,
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
        self._timer = self._loop.call_at(self._deadline(), self._look)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Chunk]:
        if self._opening is not None:
            opening, self._opening = self._opening, None
            return opening
        self._waiting_since = self._loop.time()
        return await self._waits.wait(self._chunks.__anext__)

    def _look(self) -> None:
        now = self._loop.time()
        if now >= self._ends_at:
            self._waits.interrupt(self._too_slow("total"))
            return
        if not self._waits.waiting:
            self._waiting_since = now  # the consumer is the slow one
        if now >= self._waiting_since + self._idle:
            self._waits.interrupt(self._too_slow("idle"))
            return
        self._timer = self._loop.call_at(self._deadline(), self._look)

    def _deadline(self) -> float:
        return min(self._waiting_since + self._idle, self._ends_at)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disarm the timer; the stream itself is closed by whoever opened it."""
        self._timer.cancel()
