"""The limiter's guarantees under random interleavings, one loop iteration at a time.

Hypothesis starts, finishes, breaks and cancels clients, changes the limit, pauses, and lets time
pass, between any two iterations of the event loop; after each move the books must balance.
"""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.concurrency.limiter import ConcurrencyLimiter, LimiterError, Turn

from .virtual_time import VirtualTimeLoop

SECONDS = st.sampled_from([0.1, 0.5, 1.0, 5.0])


class Client:
    """Joins, waits in one go or by polling, and holds its slot until it is told to stop."""

    def __init__(self, limiter: ConcurrencyLimiter, key: str) -> None:
        self.limiter = limiter
        self.key = key
        self.turn: Turn | None = None
        self.serving = False
        self.stop = asyncio.Event()
        self.breaks = False

    async def run(self, patience: float, poll: float | None) -> None:
        """Live one life."""
        with self.limiter.join(self.key, timeout=patience) as self.turn:
            while not await self.turn.granted(within=poll):
                assert self.turn.position >= 1
            self.serving = True
            await self.stop.wait()
            if self.breaks:
                raise OSError("the provider hung up")


class Interleavings(RuleBasedStateMachine):
    """Any number of clients, any order of events."""

    @initialize(limit=st.integers(1, 3), max_queue=st.integers(0, 6))
    def start(self, limit: int, max_queue: int) -> None:
        """Start with an idle limiter."""
        self.loop = VirtualTimeLoop()
        self.limiter = ConcurrencyLimiter(limit, max_queue=max_queue, queue_timeout=10.0)
        self.max_queue = max_queue
        self.paused_until = 0.0
        self.highest = limit
        self.clients: list[tuple[Client, asyncio.Task[None]]] = []

    @rule(key=st.sampled_from("abc"), patience=SECONDS, poll=st.none() | SECONDS)
    def arrive(self, key: str, patience: float, poll: float | None) -> None:
        """Begin a call."""
        client = Client(self.limiter, key)
        task = self.loop.create_task(client.run(patience, poll))
        self.clients.append((client, task))

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), breaks=st.booleans())
    def finish(self, data: st.DataObject, breaks: bool) -> None:
        """Let somebody end, well or badly, as soon as it holds a slot."""
        client, _ = data.draw(st.sampled_from(self.clients))
        client.breaks = breaks
        client.stop.set()

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """Cancel somebody, wherever it is."""
        _, task = data.draw(st.sampled_from(self.clients))
        task.cancel()

    @rule(limit=st.integers(1, 4))
    def set_limit(self, limit: int) -> None:
        """Raise or lower the limit."""
        self.limiter.limit = limit
        self.highest = max(limit, self.limiter.in_flight)

    @rule(seconds=SECONDS)
    def pause(self, seconds: float) -> None:
        """Pause, as on a provider's word."""
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

    @rule()
    def settle(self) -> None:
        """Let everything ready happen: then whoever holds a slot knows it, and only they serve."""
        for _ in range(10):
            self.loop.step()
        for client, task in self.clients:
            if client.turn is not None and not task.done():
                assert client.turn.held == client.serving

    @property
    def turns(self) -> list[Turn]:
        """The turns of all clients that have joined."""
        return [client.turn for client, _ in self.clients if client.turn is not None]

    @invariant()
    def slots_held_are_slots_counted(self) -> None:
        """Count the holders; never above the limit, or what a lowered limit found."""
        held = sum(turn.held for turn in self.turns)
        assert self.limiter.in_flight == held <= self.highest
        self.highest = max(self.limiter.limit, held)

    @invariant()
    def nobody_waits_beside_a_free_slot(self) -> None:
        """Look for a waiter and a free slot, out of pauses."""
        state = self.limiter.snapshot()
        if self.loop.time() > self.paused_until:
            assert not (state.queued and state.in_flight < state.limit)

    @invariant()
    def the_queue_is_bounded(self) -> None:
        """Count the waiters."""
        assert self.limiter.snapshot().queued <= self.max_queue

    @invariant()
    def positions_count_up_from_one(self) -> None:
        """Sort the waiters' positions."""
        positions = sorted(turn.position for turn in self.turns if turn.position)
        assert positions == list(range(1, self.limiter.snapshot().queued + 1))

    @invariant()
    def within_a_key_the_first_comes_first(self) -> None:
        """Whoever holds a slot came before all who still wait under its key."""
        for key in "abc":
            turns = [c.turn for c, _ in self.clients if c.turn is not None and c.key == key]
            waiting = [number for number, turn in enumerate(turns) if turn.position]
            held = [number for number, turn in enumerate(turns) if turn.held]
            assert not waiting or not held or held[-1] < waiting[0]

    @invariant()
    def every_call_is_in_one_count(self) -> None:
        """Add the counters up."""
        joined = sum(
            c.turn is not None
            or (t.done() and not t.cancelled() and isinstance(t.exception(), LimiterError))
            for c, t in self.clients
        )
        s = self.limiter.snapshot()
        ended = s.released + s.refused + s.timed_out + s.abandoned
        assert s.in_flight + s.queued + ended == joined
        assert s.granted == s.in_flight + s.released

    def teardown(self) -> None:
        """After all have gone, nothing is held and nobody waits."""
        for client, _ in self.clients:
            client.stop.set()
        self.loop.advance(100.0)
        assert all(task.done() for _, task in self.clients)
        for _, task in self.clients:
            error = None if task.cancelled() else task.exception()
            assert error is None or isinstance(error, LimiterError | OSError)
        state = self.limiter.snapshot()
        self.every_call_is_in_one_count()
        self.loop.close()
        assert (state.in_flight, state.queued) == (0, 0)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
