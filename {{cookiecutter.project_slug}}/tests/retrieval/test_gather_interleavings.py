"""Retrieval from any mixture of sources, cancelled at any moment.

The oracle is arithmetic, in hundredths of a second. Times end in 1, deadlines in 3 and 5 and
cancellations in 7, so that no two of them ever meet.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from app.retrieval.gather import Retriever
from app.retrieval.protocol import Degraded, RequiredSourceError, Retrieved
from app.retrieval.searches import GRACE
from tests.concurrency.virtual_time import VirtualTimeLoop

from .sources import FakeSource

ROUNDING = 1e-6


@dataclass(frozen=True)
class Plan:
    """What a source does: how long for, how it ends, and what it makes of a cancellation."""

    takes: float
    fails: bool
    required: bool
    timeout: float | None
    cleans_up: float | None
    """Seconds; None: it ignores the cancellation and goes on."""

    async def work(self) -> None:
        """Do it."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.takes
        while loop.time() < ends_at:
            try:
                await asyncio.sleep(ends_at - loop.time())
            except asyncio.CancelledError:
                if self.cleans_up is not None:
                    await asyncio.sleep(self.cleans_up)
                    raise
        if self.fails:
            raise OSError

    def deadline(self, whole: float) -> float:
        """Tell when it is late."""
        return whole if self.timeout is None else min(whole, self.timeout)

    def late(self, whole: float) -> bool:
        """Tell whether it will be late."""
        return self.takes > self.deadline(whole)

    def answered_at(self, whole: float) -> float:
        """Tell when the retrieval has its answer, or goes on without it."""
        if not self.late(whole):
            return self.takes
        if self.cleans_up is None:
            return min(self.takes, self.deadline(whole) + GRACE)
        return self.deadline(whole) + self.cleans_up

    def missing(self, whole: float) -> bool:
        """Tell whether the answer goes without it."""
        return self.fails or self.late(whole)


def hundredths(last_digit: int) -> st.SearchStrategy[float]:
    """Draw seconds."""
    return st.integers(0, 30).map(lambda number: (10 * number + last_digit) / 100)


PLANS = st.lists(
    st.builds(
        Plan,
        takes=hundredths(1),
        fails=st.booleans(),
        required=st.sampled_from([False, False, True]),
        timeout=st.none() | hundredths(3),
        cleans_up=st.sampled_from([0, 0.2, None]),
    ),
    max_size=4,
)


@dataclass
class Run:
    """One retrieval on its own clock."""

    plans: list[Plan]
    timeout: float
    degraded: list[str] = field(default_factory=list)
    ended_at: float = 0.0
    left: list[int] = field(default_factory=list)

    async def retrieve(self, interrupt: Callable[[asyncio.Task[Retrieved]], None]) -> Retrieved:
        """Retrieve and note how things stand when it has ended."""
        sources = [
            FakeSource(str(index), plan.work, plan.required, plan.timeout)
            for index, plan in enumerate(self.plans)
        ]
        async with Retriever(
            sources, timeout=self.timeout, limit=5, on_degraded=self._note
        ) as retriever:
            retrieval = asyncio.create_task(retriever.retrieve("why?"))
            interrupt(retrieval)
            await asyncio.wait({retrieval})
            self.ended_at = asyncio.get_running_loop().time()
            self.left = [source.running for source in sources]
        assert not any(source.running for source in sources)
        return retrieval.result()

    def _note(self, name: str, _: Exception) -> None:
        self.degraded.append(name)

    def nothing_that_obeys_is_left(self) -> bool:
        """Look for searches that still ran when the retrieval had ended."""
        return not any(
            left and plan.cleans_up is not None
            for left, plan in zip(self.left, self.plans, strict=True)
        )


@settings(max_examples=400, deadline=None)
@given(plans=PLANS, timeout=hundredths(5), cancelled_at=st.none() | hundredths(7))
def test_every_retrieval_ends_as_and_when_it_should(
    plans: list[Plan], timeout: float, cancelled_at: float | None
) -> None:
    """What came in time is found, the rest is degraded or raised, and no search is left behind."""
    run = Run(plans, timeout)

    def interrupt(retrieval: asyncio.Task[Retrieved]) -> None:
        if cancelled_at is not None:
            asyncio.get_running_loop().call_at(cancelled_at, retrieval.cancel)

    outcome = outcome_of(run.retrieve(interrupt))
    ends = [plan.answered_at(timeout) for plan in plans]
    breaks = [
        end
        for plan, end in zip(plans, ends, strict=True)
        if plan.required and plan.missing(timeout)
    ]
    whole = min(breaks) if breaks else max(ends, default=0.0)
    if cancelled_at is not None and cancelled_at < whole:
        event("cancelled")
        assert isinstance(outcome, asyncio.CancelledError)
        assert cancelled_at - ROUNDING <= run.ended_at <= cancelled_at + GRACE + ROUNDING
    elif breaks:
        event("required source failed")
        assert isinstance(outcome, RequiredSourceError)
        assert whole - ROUNDING <= run.ended_at <= whole + GRACE + ROUNDING
    else:
        event("retrieved")
        assert isinstance(outcome, Retrieved)
        assert abs(run.ended_at - whole) < ROUNDING
        assert whole <= timeout + GRACE + ROUNDING
        names = [str(index) for index, _ in enumerate(plans)]
        missing = [name for name in names if plans[int(name)].missing(timeout)]
        assert [one.source for one in outcome.found] == [n for n in names if n not in missing]
        assert outcome.degraded == tuple(
            Degraded(name, "timed out" if plans[int(name)].late(timeout) else "failed")
            for name in missing
        )
        assert sorted(run.degraded) == missing
    assert run.nothing_that_obeys_is_left()


@settings(max_examples=400, deadline=None)
@given(plans=PLANS, timeout=hundredths(5), steps=st.integers(0, 40))
def test_a_cancellation_between_any_two_steps_is_never_lost(
    plans: list[Plan], timeout: float, steps: int
) -> None:
    """Cancelled before it has ended, a retrieval never returns, and leaves no search behind."""
    run = Run(plans, timeout)
    ended: list[bool] = []

    def cancel_after(steps: int, retrieval: asyncio.Task[Retrieved]) -> None:
        if steps:
            asyncio.get_running_loop().call_soon(cancel_after, steps - 1, retrieval)
        else:
            ended.append(retrieval.done())
            retrieval.cancel()

    outcome = outcome_of(run.retrieve(lambda retrieval: cancel_after(steps, retrieval)))
    if ended == [False]:
        event("cancelled")
        assert isinstance(outcome, asyncio.CancelledError | RequiredSourceError)
    assert run.nothing_that_obeys_is_left()


def outcome_of(retrieval: Awaitable[Retrieved]) -> Retrieved | BaseException:
    """Run a retrieval on a clock of its own."""

    async def outcome() -> Retrieved | BaseException:
        try:
            return await retrieval
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- returned
            return error

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(outcome())
