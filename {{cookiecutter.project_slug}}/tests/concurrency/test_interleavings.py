"""The limiter's guarantees under random interleavings, one loop iteration at a time.

Hypothesis starts, finishes, breaks and cancels calls, changes the limit, pauses, and lets time
pass, between any two iterations of the event loop; after each step the numbers must add up.
"""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.concurrency.limiter import ConcurrencyLimiter, LimiterError, Slot

from .virtual_time import VirtualTimeLoop

SECONDS = st.sampled_from([0.1, 0.5, 1.0, 5.0])


class Call:
    """Waits in one go or by polling, and holds its slot until `stop` is set."""

    def __init__(self, limiter: ConcurrencyLimiter, key: str) -> None:
        self.limiter = limiter
        self.key = key
        self.slot: Slot | None = None
        self.holds = self.breaks = False
        self.stop = asyncio.Event()

    async def run(self, within: float, poll: float | None) -> None:
        """Live one life."""
        with self.limiter.acquire(self.key, within=within) as self.slot:
            while not await self.slot.wait(within=poll):
                assert self.slot.position >= 1
            self.holds = True
            try:
                await self.stop.wait()
            finally:
                self.holds = False
            if self.breaks:
                raise OSError("the provider hung up")


class Interleavings(RuleBasedStateMachine):
    """Any number of calls, any order of events."""

    @initialize(limit=st.integers(1, 3), max_queue=st.integers(0, 6))
    def start(self, limit: int, max_queue: int) -> None:
        """Start with an idle limiter."""
        self.loop = VirtualTimeLoop()
        self.calls: list[tuple[Call, asyncio.Task[None]]] = []
        self.max_queue = max_queue
        self.paused_until = 0.0
        self.highest = limit

        async def make() -> ConcurrencyLimiter:
            return ConcurrencyLimiter(limit, max_queue=max_queue, queue_timeout=10.0)

        self.limiter = self.loop.run_until_complete(make())

    @rule(key=st.sampled_from("abc"), within=SECONDS, poll=st.none() | SECONDS)
    def begin(self, key: str, within: float, poll: float | None) -> None:
        """Begin a call."""
        call = Call(self.limiter, key)
        self.calls.append((call, self.loop.create_task(call.run(within, poll))))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(["ends", "breaks", "is cancelled"]))
    def end(self, data: st.DataObject, how: str) -> None:
        """Let a call end, as soon as it holds a slot, or wherever it is."""
        call, task = data.draw(st.sampled_from(self.calls))
        if how == "is cancelled":
            task.cancel()
        call.breaks = how == "breaks"
        call.stop.set()

    @rule(limit=st.integers(1, 4))
    def set_limit(self, limit: int) -> None:
        """Raise or lower the limit."""
        self.loop.call_soon(setattr, self.limiter, "limit", limit)
        self.step()
        self.highest = max(limit, self.limiter.in_flight)

    @rule(seconds=SECONDS)
    def pause(self, seconds: float) -> None:
        """Pause, as the provider asks for."""
        self.paused_until = max(self.paused_until, self.loop.time() + seconds)
        self.loop.call_soon(self.limiter.pause, seconds)
        self.step()

    @rule()
    def step(self) -> None:
        """Run one iteration of the loop."""
        self.loop.step()

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.advance(seconds)

    @invariant()
    def slots_are_counted(self) -> None:
        """No more are held than the limit, or than were in use when it was lowered."""
        holding = sum(call.holds for call, _ in self.calls)
        assert holding <= self.limiter.in_flight <= self.highest
        self.highest = max(self.limiter.limit, self.limiter.in_flight)

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        """Look for a waiter beside a free slot, out of pauses, and for too many waiters."""
        state = self.limiter.snapshot()
        assert state.queued <= self.max_queue
        if self.loop.time() > self.paused_until:
            assert not (state.queued and state.in_flight < state.limit)

    @invariant()
    def every_call_is_in_one_count(self) -> None:
        """Add the counts up."""
        started = sum(
            call.slot is not None or (task.done() and not task.cancelled())
            for call, task in self.calls
        )
        state = self.limiter.snapshot()
        ended = state.released + state.refused + state.timed_out + state.abandoned
        assert state.in_flight + state.queued + ended == started

    def teardown(self) -> None:
        """When all have ended, nothing is held and no call waits."""
        for call, _ in self.calls:
            call.stop.set()
        self.loop.advance(100.0)
        for _, task in self.calls:
            assert task.cancelled() or isinstance(task.exception(), LimiterError | OSError | None)
        self.every_call_is_in_one_count()
        self.loop.close()
        assert (self.limiter.in_flight, self.limiter.snapshot().queued) == (0, 0)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=25, stateful_step_count=50, deadline=None)
