"""A queue of jobs in this process: no broker, and nothing kept that the store does not have.

    async with InProcessQueue(handler, concurrency=2, max_waiting=1000) as jobs:
        for document_id in await store.unfinished():
            await jobs.publish(document_id)

Guarantees:
- at most `concurrency` jobs run at once, those of higher priority first, else in order;
- never two jobs for one id: one that is published while it waits is merged into the waiting one,
  one that is published while it runs runs once more afterwards;
- a failed attempt is repeated after a wait that holds no runner, until the handler gives up;
- at most `max_waiting` ids wait; one more is refused. Publishing never waits;
- leaving the block cancels what runs, at once. The store still has it as unfinished.

Needs: `attempt`, `protocol`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Self

from .attempt import ATTEMPT_TIMEOUT, Backoff, attempt
from .protocol import JobHandler, JobQueueUnavailableError

_DEFAULT_BACKOFF = Backoff()


@dataclass(order=True, slots=True)
class _Job:
    """A place in the queue. A place that was overtaken by another for the same id is void."""

    rank: tuple[int, int]
    document_id: str = field(compare=False)
    attempt: int = field(compare=False)

    @property
    def priority(self) -> int:
        return -self.rank[0]


class InProcessQueue:
    """Works on jobs as long as its block is open; `retry_after` seconds is told when it is full."""

    def __init__(
        self,
        handler: JobHandler,
        *,
        concurrency: int = 2,
        max_waiting: int = 1000,
        attempt_timeout: float = ATTEMPT_TIMEOUT,
        backoff: Backoff = _DEFAULT_BACKOFF,
        retry_after: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._handler = handler
        self._concurrency = concurrency
        self._max_waiting = max_waiting
        self._attempt_timeout = attempt_timeout
        self._backoff = backoff
        self._retry_after = retry_after
        self._sleep = sleep
        self._order = count()
        self._queue: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        self._waiting: dict[str, _Job] = {}
        self._resting: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, int | None] = {}
        """What runs, and the priority with which it is to run again, if it is."""
        self._tasks = asyncio.TaskGroup()
        self._runners: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._runners = [self._tasks.create_task(self._run()) for _ in range(self._concurrency)]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in (*self._runners, *self._resting.values()):
            task.cancel()
        self._runners = []
        # The group is to see a cancellation, which may be its own, but not to wrap other errors.
        if not isinstance(exc, asyncio.CancelledError):
            exc_type = exc = traceback = None
        await self._tasks.__aexit__(exc_type, exc, traceback)

    async def publish(self, document_id: str, *, priority: int = 0) -> None:
        """Put a job in line. JobQueueUnavailableError if the line is full, or closed."""
        if not self._runners:
            raise JobQueueUnavailableError("the job queue is closed", retry_after=self._retry_after)
        if document_id in self._running:
            again = self._running[document_id]
            self._running[document_id] = priority if again is None else max(priority, again)
        elif (waiting := self._waiting.get(document_id)) is None:
            self._admit(document_id)
            self._put(document_id, priority)
        elif waiting.priority < priority:
            self._put(document_id, priority, attempt=waiting.attempt)

    async def may_resume(self) -> bool:
        """Say yes: nothing is left of an earlier process, and what waits is merged."""
        return True

    def _admit(self, document_id: str) -> None:
        """Make room: a job that rests until its next attempt is to wait no longer."""
        if resting := self._resting.pop(document_id, None):
            resting.cancel()
        elif (waiting := len(self._waiting) + len(self._resting)) >= self._max_waiting:
            raise JobQueueUnavailableError(
                f"{waiting} jobs wait, and {self._max_waiting} may", retry_after=self._retry_after
            )

    def _put(self, document_id: str, priority: int, *, attempt: int = 1) -> None:
        job = _Job((-priority, next(self._order)), document_id, attempt)
        self._waiting[document_id] = job
        self._queue.put_nowait(job)

    async def _run(self) -> None:
        while True:
            job = await self._queue.get()
            if self._waiting.get(job.document_id) is job:
                await self._work(job)

    async def _work(self, job: _Job) -> None:
        del self._waiting[job.document_id]
        self._running[job.document_id] = None
        failure = await attempt(
            self._handler,
            job.document_id,
            job.attempt,
            within=self._attempt_timeout,
            backoff=self._backoff,
        )
        again = self._running.pop(job.document_id)
        if again is not None:
            self._put(job.document_id, again)
        elif failure is not None and failure.retry_in is not None:
            self._resting[job.document_id] = self._tasks.create_task(
                self._rest(job, failure.retry_in)
            )

    async def _rest(self, job: _Job, seconds: float) -> None:
        await self._sleep(seconds)
        del self._resting[job.document_id]
        self._put(job.document_id, job.priority, attempt=job.attempt + 1)
