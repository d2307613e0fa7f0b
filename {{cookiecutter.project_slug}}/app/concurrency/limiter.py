"""A limit on calls in flight, with a bounded and fair queue in front of it.

    limiter = ConcurrencyLimiter(20, max_queue=200, queue_timeout=30.0)

    async with limiter.slot(api_key):
        await call_the_provider()

At most `limit` slots are held, and no call waits while one is free. Slots go round the keys; within
a key, first come is first served. A slot is released exactly once, whatever ends its block, and
without awaiting. No wake-up is lost: a slot is its waiter's before that task runs again.
Needs `app.errors` and one event loop; has no lock and no background task.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from app.errors import ServiceError

MAX_RETRY_AFTER = 60.0
"""Seconds that a refusal asks for at most, unless a pause is longer."""


class LimiterError(ServiceError):
    """There is no slot for this call."""


class QueueFull(LimiterError):  # noqa: N818 -- named like asyncio.QueueFull
    """The queue is full, and no key has more calls waiting than this one's."""

    type = "queue_full"


class QueueTimeout(LimiterError):  # noqa: N818
    """No slot came free before the deadline, or a pause ends after it."""

    type = "queue_timeout"


class Slot(AbstractContextManager["Slot"]):
    """One call's place in the queue, and then its slot; made by `ConcurrencyLimiter.acquire`.

    Enter it with no await in between, or else call `release` when the call ends.
    """

    def __init__(self, limiter: "ConcurrencyLimiter", key: str, timeout: float) -> None:
        self.key = key
        self.timeout = timeout
        self.deadline = _now() + timeout
        self._limiter = limiter
        self._state: Literal["waiting", "held", "failed", "released"] = "waiting"
        self._error: LimiterError | None = None
        self._changed: asyncio.Future[None] | None = None

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def position(self) -> int:
        """The place in the queue: 1 is next, 0 once the slot is held."""
        return self._limiter._position(self) if self._state == "waiting" else 0

    async def wait(self, within: float | None = None) -> bool:
        """Wait at most `within` seconds for the slot, and return whether it is held.

        Raises QueueTimeout at the deadline, and QueueFull if a key with fewer calls waiting
        displaced this one. May be called again and again.
        """
        left = self.deadline - _now()
        patience = left if within is None else min(within, left)
        if self._state == "waiting" and patience > 0:
            self._changed = self._changed or asyncio.get_running_loop().create_future()
            await asyncio.wait((self._changed,), timeout=patience)
        if self._state == "waiting" and patience == left:
            self._limiter._fail(self, QueueTimeout)
        if self._error is not None:
            raise self._error
        return self._state == "held"

    def release(self) -> None:
        """Release the slot, or leave the queue. Does nothing when called again; never awaits."""
        state, self._state = self._state, "released"
        self._limiter._leave(self, state)

    def _settle(self, error: LimiterError | None = None) -> None:
        self._state, self._error = "failed" if error else "held", error
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


@dataclass(frozen=True, slots=True)
class LimiterSnapshot:
    """The state, and counts: each call is in flight, queued, or in one of the last four.

    `waited` adds up the seconds until the slot; `abandoned` calls left the queue by themselves.
    """

    limit: int
    in_flight: int
    queued: int
    waited: float
    released: int = 0
    refused: int = 0
    timed_out: int = 0
    abandoned: int = 0


class ConcurrencyLimiter:
    """At most `limit` calls in flight; up to `max_queue` wait, for `queue_timeout` seconds."""

    def __init__(self, limit: int, *, max_queue: int, queue_timeout: float) -> None:
        self.max_queue = max_queue
        self.queue_timeout = queue_timeout
        self.in_flight = 0
        self._queue = _FairQueue()
        self._pause: asyncio.TimerHandle | None = None
        self._waited = 0.0
        self._counts = Counter[str]()
        self.limit = limit

    @property
    def limit(self) -> int:
        """How many slots there are. Raising it admits waiters; lowering it lets holders finish."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._admit()

    def acquire(self, key: str = "", *, within: float | None = None) -> Slot:
        """Take a slot if one is free, else a place in the queue. Never awaits.

        `within` replaces `queue_timeout`. Raises QueueTimeout if a pause ends after the deadline.
        In a full queue, the newest call of the key with the most waiting fails with QueueFull: this
        one, if no key has more than its own.
        """
        slot = Slot(self, key, self.queue_timeout if within is None else within)
        self._check(slot)
        if len(self._queue) >= self._room:
            self._fail(self._queue.newest_of_longest, QueueFull)
        self._queue.push(slot)
        self._admit()
        return slot

    @asynccontextmanager
    async def slot(self, key: str = "", *, within: float | None = None) -> AsyncIterator[Slot]:
        """Hold a slot for the length of the block; arguments and errors are those of `acquire`."""
        with self.acquire(key, within=within) as slot:
            await slot.wait()
            yield slot

    def check_room(self, key: str = "") -> None:
        """Raise what `acquire` would raise now. It keeps no place: `acquire` may still refuse."""
        self._check(Slot(self, key, self.queue_timeout))

    def pause(self, seconds: float) -> None:
        """Admit nothing for so long, or as another pause says; who cannot wait for it fails now."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if self._pause is not None:
            until = max(until, self._pause.when())
            self._pause.cancel()
        self._pause = loop.call_at(until, self._resume)
        for slot in [slot for slot in self._queue.positions() if slot.deadline <= until]:
            self._fail(slot, QueueTimeout)

    def snapshot(self) -> LimiterSnapshot:
        """Return the state and the counts."""
        state = (self._limit, self.in_flight, len(self._queue), self._waited)
        return LimiterSnapshot(*state, **self._counts)

    @property
    def _free(self) -> int:
        """How many calls may be admitted now."""
        return 0 if self._pause is not None else max(0, self._limit - self.in_flight)

    @property
    def _room(self) -> int:
        """How many calls may be in the queue: until they are admitted, also those with a slot."""
        return self.max_queue + self._free

    def _admit(self) -> None:
        """Give free slots to those who wait; called whenever there may be more of them."""
        while self._queue and self._free:
            slot = self._queue.pop()
            if slot.deadline < _now():
                slot._settle(self._error(slot, QueueTimeout))
            else:
                self.in_flight += 1
                self._waited += _now() - slot.deadline + slot.timeout
                slot._settle()

    def _check(self, slot: Slot) -> None:
        if len(self._queue) >= self._room and not self._queue.has_longer_than(slot.key):
            raise self._error(slot, QueueFull)
        if self._pause is not None and self._pause.when() >= slot.deadline:
            raise self._error(slot, QueueTimeout)

    def _leave(self, slot: Slot, state: str) -> None:
        if state == "held":
            self.in_flight -= 1
            self._counts["released"] += 1
            self._admit()
        elif state == "waiting":
            self._queue.remove(slot)
            self._counts["abandoned"] += 1

    def _position(self, slot: Slot) -> int:
        return self._queue.positions()[slot]

    def _fail(self, slot: Slot, kind: type[LimiterError]) -> None:
        self._queue.remove(slot)
        slot._settle(self._error(slot, kind))

    def _error(self, slot: Slot, kind: type[LimiterError]) -> LimiterError:
        """Count a refusal; Retry-After is the end of the pause, or of the longest wait."""
        if kind is QueueFull:
            self._counts["refused"] += 1
            message = f"queue full ({self.max_queue} of {self.max_queue})"
        else:
            self._counts["timed_out"] += 1
            message = f"no slot within {slot.timeout:g} s ({self.in_flight} in use)"
        wait = min(self.queue_timeout, MAX_RETRY_AFTER)
        if self._pause is not None:
            wait = self._pause.when() - _now()
        return kind(message, retry_after=max(1.0, wait))

    def _resume(self) -> None:
        self._pause = None
        self._admit()


class _FairQueue:
    """Waiting slots: round robin among the keys, in order of arrival within each."""

    def __init__(self) -> None:
        # Linked lists: taking the first of a plain dict again and again is quadratic.
        self._lanes: OrderedDict[str, OrderedDict[Slot, None]] = OrderedDict()  # the next is first
        self._length = 0
        self._positions: dict[Slot, int] = {}

    def __len__(self) -> int:
        return self._length

    @property
    def newest_of_longest(self) -> Slot:
        longest = max(self._lanes.values(), key=len)
        return next(reversed(longest))

    def has_longer_than(self, key: str) -> bool:
        own = len(self._lanes.get(key, ()))
        return any(len(lane) > own for lane in self._lanes.values())

    def push(self, slot: Slot) -> None:
        self._lanes.setdefault(slot.key, OrderedDict())[slot] = None
        self._length += 1
        self._positions.clear()

    def pop(self) -> Slot:
        """Remove the first; the next of its key comes after one of each other key."""
        key, lane = next(iter(self._lanes.items()))
        slot = next(iter(lane))
        self._lanes.move_to_end(key)
        self.remove(slot)
        return slot

    def remove(self, slot: Slot) -> None:
        del self._lanes[slot.key][slot]
        if not self._lanes[slot.key]:
            del self._lanes[slot.key]
        self._length -= 1
        self._positions.clear()

    def positions(self) -> dict[Slot, int]:
        """Return the place of each in the order of service; 1 is next."""
        if not self._positions:
            lanes = enumerate(self._lanes.values())
            order = sorted((n, lane, slot) for lane, slots in lanes for n, slot in enumerate(slots))
            self._positions = {slot: place for place, (*_, slot) in enumerate(order, start=1)}
        return self._positions


def _now() -> float:
    return asyncio.get_running_loop().time()
