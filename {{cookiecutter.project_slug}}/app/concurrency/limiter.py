"""A ceiling on calls in flight, with a bounded, fair and observable queue in front of it.

    limiter = ConcurrencyLimiter(20, max_queue=200, queue_timeout=30.0)

    async with limiter.slot(api_key):
        await call_the_provider()

or, where a call is prepared at a cost before it needs a slot:

    with limiter.expecting(api_key):
        question = await retrieve(question)
    async with limiter.slot(api_key):
        await call_the_provider(question)

or, where the one who waits is told how the queue moves:

    with limiter.join(api_key) as turn:
        while not await turn.granted(within=1.0):
            await send_position(turn.position)
        await call_the_provider()

Needs `fair_queue.py`, `pace.py` and `protocol.py` beside it, and the standard library. A limiter
belongs to one event loop; it has no lock and no background task.

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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from .fair_queue import FairQueue, rounds_for
from .pace import Pace
from .protocol import LimiterError, LimiterSnapshot, QueueFull, QueueTimeout, State, Turn

__all__ = [
    "ConcurrencyLimiter",
    "LimiterError",
    "LimiterSnapshot",
    "QueueFull",
    "QueueTimeout",
    "Turn",
]


class ConcurrencyLimiter:
    """At most `limit` calls in flight; the next ones wait their fair turn.

    `max_queue` bounds how many wait in all, `max_queue_per_key` how many under one key.
    `queue_timeout` is how long a call may wait, in seconds, where `join` says nothing else.
    """

    def __init__(
        self,
        limit: int,
        *,
        max_queue: int,
        queue_timeout: float,
        max_queue_per_key: int | None = None,
    ) -> None:
        self._limit = _at_least_one(limit)
        self._max_queue = max_queue
        self._max_queue_per_key = max_queue if max_queue_per_key is None else max_queue_per_key
        self._queue_timeout = queue_timeout
        self._queue: FairQueue[Turn] = FairQueue()
        self._expected = Counter[str]()
        self._pace = Pace()
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

    def join(
        self, key: str = "", *, weight: float = 1.0, cost: float = 1.0, timeout: float | None = None
    ) -> Turn:
        """Take a slot if one is free and nobody waits, else a place in the queue. Never awaits.

        `timeout` replaces `queue_timeout`. Raises QueueFull when no more may wait, in all or under
        this key; and QueueTimeout at once for a call that cannot make its deadline, which takes
        evidence: a pause that ends later; or a queue that has been so slow since it was last empty
        that the turn would come too late even at twice its speed (see `pace.py`).
        """
        rounds_for(cost, weight)  # a bad value is an error now, not first under load
        turn = Turn(self, self._queue_timeout if timeout is None else timeout)
        self._check_room(key)
        if self._can_grant:  # then nobody waits: see `_admit`
            self._grant(turn)
            return turn
        if not self._queue:
            self._pace.restart(turn.joined_at)
        self._queue.push(turn, key, cost=cost, weight=weight)
        if self._least_wait(turn) >= turn.deadline - turn.joined_at:
            self._queue.remove(turn)
            raise self._shed_turn(turn)
        return turn

    @asynccontextmanager
    async def slot(
        self,
        key: str = "",
        *,
        weight: float = 1.0,
        cost: float = 1.0,
        timeout: float | None = None,  # noqa: ASYNC109 -- bounds the wait, not the block
    ) -> AsyncIterator[Turn]:
        """Hold a slot for the length of the block; arguments and errors are those of `join`."""
        with self.join(key, weight=weight, cost=cost, timeout=timeout) as turn:
            await turn.granted()
            yield turn

    @contextmanager
    def expecting(self, key: str = "") -> Iterator[None]:
        """Keep a place for a call that is still being prepared, or refuse it now.

        With no await between the end of the block and `join`, that call cannot find the queue
        full. Raises QueueFull as `join` does, and QueueTimeout during a pause that is too long.
        """
        self._check_room(key)
        now = asyncio.get_running_loop().time()
        if self._pause is not None and self._pause.when() >= now + self._queue_timeout:
            raise self._shed_turn(Turn(self, self._queue_timeout))
        self._expected[key] += 1
        try:
            yield
        finally:
            self._expected -= Counter((key,))  # which forgets a key at 0

    def pause(self, seconds: float) -> None:
        """Grant nothing for so long, or longer where an earlier pause says so; holders go on.

        A waiter whose deadline comes sooner is told now.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if self._pause is not None:
            until = max(until, self._pause.when())
            self._pause.cancel()
        self._pause = loop.call_at(until, self._resume, loop)
        for turn in [turn for turn in self._queue if turn.deadline <= until]:
            self._queue.remove(turn)
            turn.become(State.FAILED, self._shed_turn(turn))

    def snapshot(self) -> LimiterSnapshot:
        """Return the state and the counts."""
        return LimiterSnapshot(
            limit=self._limit,
            in_flight=self._in_flight,
            queued=len(self._queue),
            released=self._counts["released"],
            refused=self._counts["refused"],
            shed=self._counts["shed"],
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
                self._pace.count_turn(turn.now(), self._limit)
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
        self._counts["timed_out"] += 1
        wait = turn.deadline - turn.joined_at
        message = f"no slot of {self._limit} came free within {wait:g} s"
        turn.become(State.FAILED, QueueTimeout(message, self._retry_after(turn.now())))

    def _shed_turn(self, turn: Turn) -> QueueTimeout:
        self._counts["shed"] += 1
        wait = turn.deadline - turn.joined_at
        message = f"no slot of {self._limit} can come free within {wait:g} s"
        return QueueTimeout(message, self._retry_after(turn.now()))

    def _check_room(self, key: str) -> None:
        """Refuse one more call if it, or one that is expected, could not even wait."""
        free = max(0, self._limit - self._in_flight) if self._pause is None else 0
        expected, of_key = self._expected.total(), self._expected[key]
        queued = len(self._queue) + max(0, expected - free)
        under_key = self._queue.waiting(key) + max(0, of_key - free)
        if expected < free or (queued < self._max_queue and under_key < self._max_queue_per_key):
            return
        if queued >= self._max_queue:
            message = f"{queued} calls are waiting, of {self._max_queue} that may"
        else:
            message = f"{under_key} calls of this key wait, of {self._max_queue_per_key} that may"
        self._counts["refused"] += 1
        raise QueueFull(message, self._retry_after(asyncio.get_running_loop().time()))

    def _least_wait(self, turn: Turn) -> float:
        """Return the seconds that a newcomer will wait at the very least, as far as is known."""
        if self._pause is not None:
            return self._pause.when() - turn.joined_at
        now, patience = turn.joined_at, turn.deadline - turn.joined_at
        bound = self._pace.sure_wait(len(self._queue), now, self._limit)
        if bound < patience:  # the whole queue can make it: no need to look up the position
            return 0.0
        return self._pace.sure_wait(self._queue.position(turn), now, self._limit)

    def _retry_after(self, now: float) -> float:
        if self._pause is not None:
            return max(1.0, self._pause.when() - now)
        return self._pace.retry_after(len(self._queue), now, at_most=self._queue_timeout)

    def _resume(self, loop: asyncio.AbstractEventLoop) -> None:
        self._pause = None
        self._pace.restart(loop.time())
        self._admit()


def _at_least_one(limit: int) -> int:
    if limit < 1:
        raise ValueError(f"limit is {limit}, must be at least 1")
    return limit
