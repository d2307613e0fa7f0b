"""Slots that a whole fleet of processes shares, kept in Redis or Valkey as leases.

    async with FleetSemaphore(redis, "serppost", limit=68) as fleet:
        async with fleet.slot(timeout=10.0) as lease:
            await call(lease.token)

For quotas that count the calls in flight of the whole account, whichever process makes them. Put a
`ConcurrencyLimiter` before it, for fair turns among the clients of one process and for a bound on
how many wait; across processes turns go round, one slot each.

Needs `fleet_script.py` and `protocol.py` beside it; redis-py >= 5 with the caller's client, which
the caller closes (`Redis` or `RedisCluster`; its socket timeout is to be above `poll`); and Redis
>= 6.2 or Valkey >= 7.2.

Guarantees, as long as the server keeps its data and its clock does not jump:
- no more than `limit` leases run at once in the fleet;
- a lease is renewed as long as its block runs. If the process dies, by whatever signal, its slots
  are free again when their leases end, `lease` seconds later at most;
- a block whose lease could not be renewed in time is cancelled before the server gives the slot to
  another, and raises LeaseLost;
- tokens grow with each grant in the fleet: a resource that remembers the highest one it has seen
  can refuse a holder that was frozen beyond its lease and does not know it yet (fencing);
- who leaves, by whatever exception at whichever await, gives its slot or its place back, exactly
  once and without awaiting: one keeper task tells the server all that a process holds and wants;
- a waiter is woken when its turn comes. `poll` seconds is only how often its process makes sure
  that no such word was lost; if it says nothing for three times as long, it loses its turn.

If the server is gone, waiters wait until their timeout and holders until their lease ends; who
comes then can tell by `reachable`, and do without.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Self
from uuid import uuid4

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisError

from .fleet_script import FLEET_SCRIPT
from .protocol import LimiterError, QueueTimeout

_KEYS = ("slots", "turns", "alive", "token", "said:{owner}", "wake:{owner}")
_SERVER_FAILURES = (RedisError, OSError)  # an asyncio.timeout that expires is an OSError, too
_DIGEST = hashlib.sha1(FLEET_SCRIPT.encode(), usedforsecurity=False).hexdigest()

SAFETY_MARGIN = 0.1
"""The part of a lease that its holder does without, so that it has time to stop."""


class LeaseLost(LimiterError):  # noqa: N818 -- says what happened, as its siblings do
    """The slot's lease ended while its block ran; another process may hold the slot by now."""

    type = "lease_lost"


class Lease:
    """A slot of the fleet, first awaited, then held; `token` is 0 until then."""

    def __init__(self) -> None:
        self.token = 0
        self._granted = asyncio.get_running_loop().create_future()
        self._ends_at = 0.0
        self._scope: asyncio.Timeout | None = None

    def _grant(self, token: int, ends_at: float) -> None:
        self.token, self._ends_at = token, ends_at
        if not self._granted.done():
            self._granted.set_result(None)

    def _end_at(self, moment: float) -> None:
        self._ends_at = moment
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(moment)

    @asynccontextmanager
    async def _alive(self) -> AsyncIterator[None]:
        """Run the block until the lease ends, and not longer."""
        try:
            async with asyncio.timeout_at(self._ends_at) as self._scope:
                yield
        except TimeoutError as error:
            if self._scope is None or not self._scope.expired():
                raise
            raise LeaseLost(f"the lease of slot {self.token} could not be renewed") from error


class FleetSemaphore:
    """`limit` slots under one name; every process of the fleet opens one of these.

    `lease` seconds, 30 to 60, is how long at most a slot outlives the process that held it.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        name: str,
        *,
        limit: int,
        lease: float = 30.0,
        poll: float = 1.0,
    ) -> None:
        self._client = client
        self._limit = limit
        self._lease = lease
        self._poll = poll
        self._owner = uuid4().hex
        self._keys = [f"fleet:{{{name}}}:{key.format(owner=self._owner)}" for key in _KEYS]
        self._messages = count(1)
        self._waiting: OrderedDict[Lease, None] = OrderedDict()
        self._held: dict[int, Lease] = {}
        self._changed = asyncio.Event()
        self._starved = asyncio.Event()
        self._error: Exception | None = None
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._helpers = [
            self._tasks.create_task(self._keep_in_step()),
            self._tasks.create_task(self._listen()),
        ]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for helper in self._helpers:
            helper.cancel()
        # The group is to see a cancellation, which may be its own, but not to wrap other errors.
        if not isinstance(exc, asyncio.CancelledError):
            exc_type = exc = traceback = None
        try:
            await self._tasks.__aexit__(exc_type, exc, traceback)
        finally:
            with suppress(*_SERVER_FAILURES):
                await self._tell((), wanted=0)

    @property
    def in_flight(self) -> int:
        """How many slots this process holds."""
        return len(self._held)

    @property
    def reachable(self) -> bool:
        """Whether the server has answered the last message; if not, it is asked again and again."""
        return self._error is None

    @asynccontextmanager
    async def slot(
        self,
        *,
        timeout: float,  # noqa: ASYNC109 -- bounds the wait, not the block
    ) -> AsyncIterator[Lease]:
        """Hold a slot for the length of the block.

        Raises QueueTimeout if there is none within `timeout` seconds, and LeaseLost if the lease
        ends while the block runs.
        """
        lease = Lease()
        self._waiting[lease] = None
        self._changed.set()
        try:
            await self._granted(lease, timeout)
            async with lease._alive():
                yield lease
        finally:
            self._waiting.pop(lease, None)
            self._held.pop(lease.token, None)
            self._changed.set()

    async def _granted(self, lease: Lease, seconds: float) -> None:
        await asyncio.wait((lease._granted,), timeout=seconds)
        if not lease.token:
            message = f"none of the fleet's {self._limit} slots came free within {seconds:g} s"
            raise QueueTimeout(message, retry_after=max(1.0, self._poll)) from self._error

    async def _keep_in_step(self) -> None:
        """Talk to the server when something has changed, and in time to keep what is held."""
        due: float | None = None
        while not _is_cancelled():
            with suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._changed.wait()
            self._changed.clear()
            try:
                due = await self._synchronize()
            except _SERVER_FAILURES as error:
                self._error, due = error, 0.0
                await asyncio.sleep(min(self._poll, self._lease / 10))

    async def _synchronize(self) -> float | None:
        """Tell what is held and wanted, act on the answer, return the seconds to the next time."""
        sent_at = asyncio.get_running_loop().time()
        held = tuple(self._held)
        granted, lost, next_end = await self._tell(held, wanted=len(self._waiting))
        self._error = None
        ends_at = sent_at + self._lease * (1 - SAFETY_MARGIN)
        for token in self._held.keys() & set(held):
            self._held[token]._end_at(sent_at if token in lost else ends_at)
        for token in granted:
            if self._waiting:
                self._held[token], _ = self._waiting.popitem(last=False)
                self._held[token]._grant(token, ends_at)
            else:  # its waiter has left; the next message, without it, gives it back
                self._changed.set()
        if not self._waiting:
            self._starved.clear()
            return self._lease / 3 if self._held else None
        self._starved.set()
        return min(self._poll, self._lease / 3, next_end)

    async def _listen(self) -> None:
        """While there are waiters, wait for the word that it is this process's turn."""
        while not _is_cancelled():
            await self._starved.wait()
            try:
                async with asyncio.timeout(2 * self._poll):
                    if await self._client.blpop(self._keys[-1:], timeout=self._poll):
                        self._changed.set()
            except _SERVER_FAILURES:
                await asyncio.sleep(self._poll)

    async def _tell(self, held: Sequence[int], *, wanted: int) -> tuple[list[int], set[int], float]:
        """Run the script: return tokens granted, tokens lost, seconds to the next lease's end."""
        times = (int(1000 * self._lease), int(1000 * 3 * self._poll))
        number = next(self._messages)
        message: list[str | int] = [self._owner, number, self._limit, *times, wanted, *held]
        async with asyncio.timeout(self._lease / 6):
            try:
                reply = await self._client.evalsha(_DIGEST, len(_KEYS), *self._keys, *message)
            except NoScriptError:
                reply = await self._client.eval(FLEET_SCRIPT, len(_KEYS), *self._keys, *message)
        granted, lost, next_end = reply
        return list(map(int, granted)), set(map(int, lost)), (next_end + 1) / 1000


def _is_cancelled() -> bool:
    """Tell whether this task was cancelled, and the word of it lost on its way.

    In Python 3.11 `asyncio.wait_for` may swallow a cancel, and redis-py uses it for a client with a
    socket timeout.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
