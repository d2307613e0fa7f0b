"""The limiter's guarantees in random interleavings, one iteration of the event loop at a time."""

import asyncio
from random import Random

import pytest

from app.concurrency.limiter import ConcurrencyLimiter, LimiterError, Slot

from .virtual_time import VirtualTimeLoop

SECONDS = [0.1, 0.5, 1.0, 5.0]
EVENTS = dict(begin=6, end=2, fail=1, cancel=2, limit=1, pause=1, step=8, wait=2)  # noqa: C408
"""How often each happens, compared with the others."""


class Call:
    """Waits in one go or by polling, and holds its slot until `stop` is set."""

    slot: Slot | None = None
    holds = fails = False

    def __init__(self, limiter: ConcurrencyLimiter, dice: Random) -> None:
        self.limiter = limiter
        self.key = dice.choice("abc")
        self.within, self.poll = dice.choice(SECONDS), dice.choice([None, *SECONDS])
        self.stop = asyncio.Event()

    async def run(self) -> None:
        """Make the call."""
        with self.limiter.acquire(self.key, within=self.within) as self.slot:
            while not await self.slot.wait(within=self.poll):
                assert self.slot.position >= 1
            self.holds = True
            try:
                await self.stop.wait()
            finally:
                self.holds = False
            if self.fails:
                self.slot.release()  # and again at the end of the block
                raise OSError("reset")


class Run:
    """A limiter and its calls; `check` holds after every event."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.loop = VirtualTimeLoop()
        self.limiter = ConcurrencyLimiter(2, max_queue=dice.randint(0, 6), queue_timeout=10.0)
        self.calls: dict[asyncio.Task[None], Call] = {}
        self.paused_until = 0.0
        self.highest = 2

    def happen(self, event: str) -> None:
        """Let an event happen."""
        seconds = self.dice.choice(SECONDS)
        running = [task for task in self.calls if not task.done()]
        if event == "begin":
            call = Call(self.limiter, self.dice)
            self.calls[self.loop.create_task(call.run())] = call
        elif event == "limit":
            self.loop.call_soon(setattr, self.limiter, "limit", self.dice.randint(1, 4))
            self.highest = 4
        elif event == "pause":
            self.paused_until = max(self.paused_until, self.loop.time() + seconds)
            self.loop.call_soon(self.limiter.pause, seconds)
        elif event in {"end", "fail", "cancel"} and running:
            task = self.dice.choice(running)
            if event == "cancel":
                task.cancel()
            self.calls[task].fails = event == "fail"
            self.calls[task].stop.set()
        self.loop.advance(seconds if event == "wait" else None)

    def check(self) -> None:
        """Slots and queue are bounded, no free slot is left to a waiter, each call is counted."""
        state = self.limiter.snapshot()
        holding = sum(call.holds for call in self.calls.values())
        assert holding <= state.in_flight <= self.highest
        self.highest = max(state.limit, state.in_flight)  # holders are left to finish
        assert state.queued <= self.limiter.max_queue
        if self.loop.time() > self.paused_until:
            assert not state.queued or state.in_flight >= state.limit
        ended = state.released + state.refused + state.timed_out + state.abandoned
        started = sum(
            call.slot is not None or (task.done() and not task.cancelled())
            for task, call in self.calls.items()
        )
        assert state.in_flight + state.queued + ended == started


@pytest.mark.parametrize("seed", range(25))
def test_interleavings(seed: int) -> None:
    """Calls begin, end, fail and are cancelled, limits change and pauses come, in any order."""
    dice = Random(seed)
    run = Run(dice)
    for event in dice.choices(list(EVENTS), list(EVENTS.values()), k=300):
        run.happen(event)
        run.check()
    for call in run.calls.values():
        call.stop.set()
    run.loop.advance(100.0)
    run.check()
    for task in run.calls:
        assert task.cancelled() or isinstance(task.exception(), LimiterError | OSError | None)
    assert (run.limiter.in_flight, run.limiter.snapshot().queued) == (0, 0)
    run.loop.close()
