"""A ceiling on calls in flight, with a bounded, fair and observable queue in front of it.

    limiter = ConcurrencyLimiter(20, max_queue=200, queue_timeout=30.0)

    async with limiter.slot(api_key):
        await call_the_provider()

or, where the one who waits is told how the queue moves:

    with limiter.join(api_key) as turn:
        while not await turn.granted(within=1.0):
            await send_position(turn.position)
        await call_the_provider()

Needs `fair_queue.py` and `protocol.py` beside it, and the standard library. A limiter belongs to
one event loop; it has no lock and no background task.

What a bare `asyncio.Semaphore` lacks, and FastAPI's `Depends(max_concurrency=N)` as well: a bound
on the queue (without one, overload turns into memory and endless waits), a deadline for the wait,
fair turns among clients (a FIFO belongs to whoever sends most), the waiter's position, a limit
that may change while calls run, a pause, and numbers for metrics.

Guarantees:
- at most `limit` slots are held; where the limit was lowered, holders finish and none is added;
- no waiter waits while a slot is free, unless the limiter is paused;
- every wait is bounded, by the queue's length (`QueueFull`) and by a deadline (`QueueTimeout`);
- a slot is given back, or the queue left, exactly once when the turn's block ends, whatever ended
  it at whichever await, and without awaiting. No wake-up can be lost: a slot is granted by a
  change of the Turn itself, and its task is only told. If that task is being cancelled just then,
  its block ends with the slot in the Turn, and the next waiter gets it;
- turns are fair among keys, and first come first served within a key: see `fair_queue.py`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .fair_queue import FairQueue
from .protocol import LimiterError, LimiterSnapshot, QueueFull, QueueTimeout, State, Turn

__all__ = [
    "ConcurrencyLimiter",
    "LimiterError",
    "LimiterSnapshot",
    "QueueFull",
    "QueueTimeout",
    "Turn",
]

LONGEST_RETRY_AFTER = 60.0
"""Seconds that a refusal asks for at most, unless a pause is longer."""


class ConcurrencyLimiter:
    """At most `limit` calls in flight; the next ones wait their fair turn.

    `max_queue` bounds how many wait. `queue_timeout` is how long a call may wait, in seconds,
    where `join` says nothing else.
    """

    def __init__(self, limit: int, *, max_queue: int, queue_timeout: float) -> None:
        self._limit = _at_least_one(limit)
        self._max_queue = max_queue
        self._queue_timeout = queue_timeout
        self._queue: FairQueue[Turn] = FairQueue()
        self._pause: asyncio.TimerHandle | None = None
        self._in_flight = 0
        self._waited = 0.0
        self._counts = Counter[str]()

    @property
    def limit(self) -> int:
        """How many slots there are. Raising it admits waiters; lowering it lets holders finish."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = _at_least_one(limit)
        self._admit()

    @property
    def in_flight(self) -> int:
        """How many slots are held."""
        return self._in_flight

    def join(self, key: str = "", *, timeout: float | None = None) -> Turn:
        """Take a slot if one is free and nobody waits, else a place in the queue. Never awaits.

        `timeout` replaces `queue_timeout`. Raises QueueFull when no more may wait, and QueueTimeout
        at once where a pause ends after the call's deadline.
        """
        turn = Turn(self, self._queue_timeout if timeout is None else timeout)
        self._check(turn)
        if self._can_grant:  # then nobody waits: see `_admit`
            self._grant(turn)
        else:
            self._queue.push(turn, key)
        return turn

    @asynccontextmanager
    async def slot(
        self,
        key: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- bounds the wait, not the block
    ) -> AsyncIterator[Turn]:
        """Hold a slot for the length of the block; arguments and errors are those of `join`."""
        with self.join(key, timeout=timeout) as turn:
            await turn.granted()
            yield turn

    def check_room(self) -> None:
        """Raise what `join` would raise now, before a call is prepared at a cost.

        It keeps no place, since a place for a call that may never come would refuse others in
        vain; so `join` may still refuse the call afterwards.
        """
        self._check(Turn(self, self._queue_timeout))

    def pause(self, seconds: float) -> None:
        """Grant nothing for so long, or longer where an earlier pause says so; holders go on.

        A waiter whose deadline comes sooner is told now.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if self._pause is not None:
            until = max(until, self._pause.when())
            self._pause.cancel()
        self._pause = loop.call_at(until, self._resume)
        for turn in [turn for turn in self._queue if turn.deadline <= until]:
            self._queue.remove(turn)
            turn.become(State.FAILED, self._paused_too_long(turn))

    def snapshot(self) -> LimiterSnapshot:
        """Return the state and the counts."""
        return LimiterSnapshot(
            limit=self._limit,
            in_flight=self._in_flight,
            queued=len(self._queue),
            released=self._counts["released"],
            refused=self._counts["refused"],
            timed_out=self._counts["timed_out"],
            abandoned=self._counts["abandoned"],
            waited=self._waited,
        )

    @property
    def _can_grant(self) -> bool:
        return self._in_flight < self._limit and self._pause is None

    def _admit(self) -> None:
        """Give all free slots to those whose turn it is; past its deadline nobody gets one.

        Called whenever there may be more free slots, so that free slots and waiters never meet.
        """
        while self._queue and self._can_grant:
            turn = self._queue.pop()
            if turn.now() <= turn.deadline:
                self._grant(turn)
            else:
                self._fail_overdue(turn)

    def _grant(self, turn: Turn) -> None:
        self._in_flight += 1
        self._waited += turn.now() - turn.joined_at
        turn.become(State.HELD)

    def _left(self, turn: Turn, state: State) -> None:
        if state is State.HELD:
            self._in_flight -= 1
            self._counts["released"] += 1
            self._admit()
        elif state is State.WAITING:
            self._queue.remove(turn)
            self._counts["abandoned"] += 1

    def _position(self, turn: Turn) -> int:
        return self._queue.position(turn)

    def _time_out(self, turn: Turn) -> None:
        self._queue.remove(turn)
        self._fail_overdue(turn)

    def _fail_overdue(self, turn: Turn) -> None:
        wait = turn.deadline - turn.joined_at
        message = f"no slot of {self._limit} came free within {wait:g} s"
        turn.become(State.FAILED, self._timeout(turn, message))

    def _timeout(self, turn: Turn, message: str) -> QueueTimeout:
        self._counts["timed_out"] += 1
        return QueueTimeout(message, self._retry_after(turn.now()))

    def _paused_too_long(self, turn: Turn) -> QueueTimeout:
        wait = turn.deadline - turn.joined_at
        message = f"calls are paused for longer than the {wait:g} s that this one may wait"
        return self._timeout(turn, message)

    def _check(self, turn: Turn) -> None:
        """Refuse a newcomer that could not even wait, or not until the end of the pause."""
        if self._can_grant:
            return
        if len(self._queue) >= self._max_queue:
            self._counts["refused"] += 1
            message = f"the queue is full ({len(self._queue)} of {self._max_queue})"
            raise QueueFull(message, self._retry_after(turn.now()))
        if self._pause is not None and self._pause.when() >= turn.deadline:
            raise self._paused_too_long(turn)

    def _retry_after(self, now: float) -> float:
        """Return the pause's end, else the time in which all who wait are served or give up."""
        if self._pause is not None:
            return max(1.0, self._pause.when() - now)
        return max(1.0, min(self._queue_timeout, LONGEST_RETRY_AFTER))

    def _resume(self) -> None:
        self._pause = None
        self._admit()


def _at_least_one(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"limit is {limit}, must be at least 1")
    return limit
