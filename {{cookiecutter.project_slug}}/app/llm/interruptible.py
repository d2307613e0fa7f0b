"""A wait that others can end, for a stream's many short waits.

`asyncio.timeout` round each wait for the next chunk costs more CPU than reading the
chunk: it arms and disarms a timer every time. This arms nothing. Whoever has
a reason (one timer a stream, a shutdown) calls `interrupt`, and the wait ends with that reason.

Needs: the standard library. The rules of cancellation are those of `asyncio.timeout`: a cancel
from outside is never swallowed, also when it comes together with the interruption.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")


class Interruptible:
    """The waits of one consumer, one at a time."""

    def __init__(self) -> None:
        self._reason: Exception | None = None
        self._waiting: asyncio.Task[object] | None = None

    @property
    def waiting(self) -> bool:
        """Whether somebody waits at the moment."""
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
