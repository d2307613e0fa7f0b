"""The queue in the process works on jobs in order, a few at a time, and never two for one id."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import app.jobs
from app.jobs.attempt import Backoff
from app.jobs.in_process import InProcessQueue
from app.jobs.protocol import MAX_ATTEMPTS, JobQueueUnavailableError, RetryLater
from tests.concurrency.virtual_time import VirtualTimeLoop
from tests.copying import needs, use_copied

from .handlers import FakeHandler, fails, takes

PACKAGE = Path(app.jobs.__file__).parent
EXACT = Backoff(first=5, longest=60, random=lambda: 1.0)
FOREVER = 1e9


def queue(
    handler: FakeHandler,
    *,
    concurrency: int = 1,
    max_waiting: int = 1000,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> InProcessQueue:
    """Return a queue without jitter."""
    return InProcessQueue(
        handler,
        concurrency=concurrency,
        max_waiting=max_waiting,
        attempt_timeout=FOREVER,
        backoff=EXACT,
        sleep=sleep,
    )


async def test_no_more_than_so_many_run_at_once() -> None:
    """Four jobs of a second, two at a time, take two seconds."""
    handler = FakeHandler(takes(1))
    async with queue(handler, concurrency=2) as jobs:
        for document_id in "abcd":
            await jobs.publish(document_id)
        await asyncio.sleep(2.5)
        assert handler.begun == [(0, "a"), (0, "b"), (1, "c"), (1, "d")]
        assert (len(handler.done), handler.most) == (4, 2)


async def test_higher_priorities_come_first_and_equals_in_order() -> None:
    """What is urgent overtakes what waits, but not what runs."""
    handler = FakeHandler(takes(1))
    async with queue(handler) as jobs:
        await jobs.publish("running")
        await asyncio.sleep(0.5)
        await jobs.publish("first")
        await jobs.publish("second")
        await jobs.publish("urgent", priority=5)
        await asyncio.sleep(10)
    assert handler.order == ["running", "urgent", "first", "second"]


async def test_a_job_that_waits_is_not_queued_twice() -> None:
    """Publishing it again is merged into the waiting one, which keeps its place."""
    handler = FakeHandler(takes(1))
    async with queue(handler) as jobs:
        for document_id in ("running", "a", "b", "a"):
            await jobs.publish(document_id)
        await asyncio.sleep(10)
    assert handler.order == ["running", "a", "b"]


async def test_a_job_that_waits_may_become_urgent() -> None:
    """Publishing it again with a higher priority moves it, and a lower one does not."""
    handler = FakeHandler(takes(1))
    async with queue(handler) as jobs:
        await jobs.publish("running")
        await asyncio.sleep(0.5)
        await jobs.publish("a")
        await jobs.publish("b")
        await jobs.publish("b", priority=5)
        await jobs.publish("b", priority=1)
        await jobs.publish("c", priority=3)
        await asyncio.sleep(10)
    assert handler.order == ["running", "b", "c", "a"]


async def test_a_job_that_runs_runs_once_more_afterwards() -> None:
    """Published while it runs, however often, it runs once more, and never side by side."""
    handler = FakeHandler(takes(1))
    async with queue(handler, concurrency=3) as jobs:
        await jobs.publish("a")
        await asyncio.sleep(0.5)
        await jobs.publish("a")
        await jobs.publish("a")
        await asyncio.sleep(10)
    assert handler.begun == [(0, "a"), (1, "a")]


async def test_a_failed_job_comes_again_after_its_wait() -> None:
    """The waits are the backoff's: 5, 10, 20, 40 seconds; then it is given up."""
    handler = FakeHandler(fails(ValueError("broken")))
    async with queue(handler) as jobs:
        await jobs.publish("a")
        await asyncio.sleep(1000)
    assert [when for when, _ in handler.begun] == [0, 5, 15, 35, 75]
    assert len(handler.begun) == MAX_ATTEMPTS
    assert handler.given_up == [("a", "ValueError: broken")]


async def test_a_job_that_rests_holds_no_runner() -> None:
    """Others run while a failed job waits for its next attempt."""
    handler = FakeHandler(takes(1), own={"a": [fails(RetryLater("busy", after=100))]})
    async with queue(handler) as jobs:
        await jobs.publish("a")
        await jobs.publish("b")
        await asyncio.sleep(500)
    assert handler.begun == [(0, "a"), (0, "b"), (pytest.approx(110), "a")]


async def test_a_job_that_rests_and_is_published_runs_at_once_and_anew() -> None:
    """It neither waits any longer, nor runs twice, and has all its attempts before it."""
    handler = FakeHandler(own={"a": [fails(RetryLater("busy", after=100))] * MAX_ATTEMPTS})
    async with queue(handler) as jobs:
        await jobs.publish("a")
        await asyncio.sleep(10)
        await jobs.publish("a")
        await asyncio.sleep(10_000)
    assert [when for when, _ in handler.begun][:2] == [0, 10]
    assert len(handler.begun) == MAX_ATTEMPTS + 1
    assert (handler.done, handler.given_up) == (["a"], [])


async def test_the_waits_are_slept_by_the_injected_sleep() -> None:
    """Who brings a clock of their own decides when the next attempt is due."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    async with queue(FakeHandler(fails(ValueError("broken"))), sleep=sleep) as jobs:
        await jobs.publish("a")
        await asyncio.sleep(1)
    assert asked == [5, 10, 20, 40]


async def test_the_line_is_bounded() -> None:
    """One id more than may wait is refused, with when to try again; a known one is not."""
    handler = FakeHandler(takes(FOREVER), own={"resting": [fails(ValueError("broken"))]})
    async with queue(handler, max_waiting=2) as jobs:
        await jobs.publish("resting")
        await asyncio.sleep(1)
        await jobs.publish("running")
        await asyncio.sleep(1)
        await jobs.publish("waiting")
        with pytest.raises(JobQueueUnavailableError, match="2 jobs wait, and 2 may") as refused:
            await jobs.publish("more")
        for known in ("resting", "running", "waiting"):
            await jobs.publish(known)
    assert refused.value.retry_after == 5


async def test_leaving_cancels_what_runs_at_once() -> None:
    """The end of the block waits for nothing that runs, waits or rests; then none is taken on."""
    handler = FakeHandler(takes(FOREVER), own={"rests": [fails(ValueError("broken"))]})
    async with queue(handler, concurrency=2) as jobs:
        for document_id in ("rests", "a", "b", "c"):
            await jobs.publish(document_id)
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() == 1
    assert (handler.running, handler.done, len(handler.begun)) == ([], [], 3)
    with pytest.raises(JobQueueUnavailableError, match="closed"):
        await jobs.publish("late")


async def test_an_error_within_the_block_comes_out_as_it_is() -> None:
    """It is not wrapped in a group, and what runs is cancelled all the same."""
    handler = FakeHandler(takes(FOREVER))

    async def break_off() -> None:
        async with queue(handler) as jobs:
            await jobs.publish("a")
            await asyncio.sleep(1)
            raise LookupError

    with pytest.raises(LookupError):
        await break_off()
    assert handler.running == []


async def test_cancelling_the_block_cancels_what_runs() -> None:
    """Whoever is cancelled within the block ends as cancelled, and leaves nothing running."""
    handler = FakeHandler(takes(FOREVER))

    async def serve() -> None:
        async with queue(handler) as jobs:
            await jobs.publish("a")
            await asyncio.sleep(FOREVER)

    serving = asyncio.create_task(serve())
    await asyncio.sleep(1)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert handler.running == []


MOVES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0, 7.0])),
    max_size=20,
)


@settings(deadline=None, max_examples=50)
@given(moves=MOVES, concurrency=st.integers(1, 3), failing=st.sets(st.sampled_from("abc")))
def test_whatever_is_published_is_worked_on_afterwards(
    moves: list[tuple[str, int, float]], concurrency: int, failing: set[str]
) -> None:
    """Each id is begun after its last publication, and never runs twice at a time."""
    handler = FakeHandler(takes(1), own={one: [fails(ValueError("broken"))] for one in failing})
    published: dict[str, float] = {}

    async def run() -> None:
        async with queue(handler, concurrency=concurrency) as jobs:
            for document_id, priority, pause in moves:
                published[document_id] = asyncio.get_running_loop().time()
                await jobs.publish(document_id, priority=priority)
                await asyncio.sleep(pause)
            await asyncio.sleep(1000)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
    last = {document_id: when for when, document_id in handler.begun}
    assert last.keys() == published.keys()
    assert all(last[document_id] >= when for document_id, when in published.items())
    assert handler.most <= concurrency
    assert not handler.clashes


COPIED = """
import asyncio
from theirs.in_process import InProcessQueue

class Handler:
    async def process(self, document_id): print(document_id); done.set()

async def main():
    async with InProcessQueue(Handler(), concurrency=1) as jobs:
        await jobs.publish("a document")
        await done.wait()

done = asyncio.Event()
asyncio.run(main())
"""


def test_a_copied_queue_works(tmp_path: Path) -> None:
    """It needs two files beside it and the standard library."""
    assert needs(PACKAGE, "in_process") == {"in_process", "attempt", "protocol"}
    assert use_copied(tmp_path, PACKAGE, "in_process", COPIED) == "a document"
