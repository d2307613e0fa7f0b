"""The caller's side of a limiter: a turn, the ways to be refused, and numbers for metrics.

Needs the standard library only.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from types import TracebackType
from typing import ClassVar, Protocol, Self


class LimiterError(Exception):
    """No slot for this call.

    `type` is the error's name on the wire; `retry_after`, in seconds, is an estimate of when to
    come back, at least 1, or None where coming back does not help.
    """

    type: ClassVar[str] = "limiter_error"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(LimiterError):  # noqa: N818 -- named like asyncio.QueueFull
    """As many calls wait as may wait."""

    type = "queue_full"


class QueueTimeout(LimiterError):  # noqa: N818
    """No slot came free before the deadline, or a pause ends after it."""

    type = "queue_timeout"


class State(Enum):
    """Where a call is on its way through a limiter."""

    WAITING = auto()
    HELD = auto()
    FAILED = auto()
    LEFT = auto()


class Turn:
    """One call's place in the queue, and then its slot; made by `ConcurrencyLimiter.join`.

    Enter it at once, with no await between `join` and `with`. Whoever cannot (a response object
    that outlives the function) calls `leave` when it ends. Whether the slot is held is written
    here, and nowhere else: the task that waits is only woken to look.
    """

    __slots__ = ("_error", "_limiter", "_loop", "_state", "_wakeup", "deadline", "joined_at")

    def __init__(self, limiter: "TurnKeeper", timeout: float) -> None:
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._state = State.WAITING
        self._error: QueueTimeout | None = None
        self._wakeup: asyncio.Future[None] | None = None
        self.joined_at = self.now()
        self.deadline = self.joined_at + timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    @property
    def held(self) -> bool:
        """Whether the slot is this turn's now."""
        return self._state is State.HELD

    @property
    def position(self) -> int:
        """How many turns away the slot is: 1 is next, 0 once it is held."""
        return self._limiter._position(self) if self._state is State.WAITING else 0

    async def granted(self, within: float | None = None) -> bool:
        """Wait for the slot, `within` seconds at most: True once it is held, else False.

        Raises QueueTimeout at the turn's deadline. May be called again and again.
        """
        left = self.deadline - self.now()
        patience = left if within is None else min(within, left)
        if self._state is State.WAITING and patience > 0:
            self._wakeup = self._wakeup or self._loop.create_future()
            await asyncio.wait((self._wakeup,), timeout=patience)
        if self._state is State.WAITING and patience == left:
            self._limiter._time_out(self)
        if self._error is not None:
            raise self._error
        if self._state is State.LEFT:
            raise RuntimeError("this turn has been left")
        return self.held

    def leave(self) -> None:
        """Give the slot back or leave the queue; not again if called again. Never awaits."""
        state, self._state = self._state, State.LEFT
        self._limiter._left(self, state)

    def become(self, state: State, error: QueueTimeout | None = None) -> None:
        """Take the limiter's word, and wake the task that waits."""
        self._state, self._error = state, error
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)

    def now(self) -> float:
        """Return the time of the turn's event loop, in seconds."""
        return self._loop.time()


class TurnKeeper(Protocol):
    """What a turn asks of its limiter, and nobody else does."""

    def _position(self, turn: Turn) -> int: ...

    def _time_out(self, turn: Turn) -> None: ...

    def _left(self, turn: Turn, state: State) -> None: ...


@dataclass(frozen=True, slots=True)
class LimiterSnapshot:
    """A limiter's state now, and its counts since it was made.

    Each call is in just one of `in_flight`, `queued`, `released` (its slot given back), `refused`
    (the queue was full), `timed_out` (waited up to its deadline, or a pause ends after it) and
    `abandoned` (left the queue of its own accord, as by cancellation).
    """

    limit: int
    in_flight: int
    queued: int
    released: int
    refused: int
    timed_out: int
    abandoned: int
    waited: float
    """Seconds that the calls which got a slot had waited for it, added up."""

    @property
    def granted(self) -> int:
        """Slots given out."""
        return self.in_flight + self.released
