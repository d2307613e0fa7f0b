"""Turns go round the keys; checked against the textbook's walk over a ring."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.concurrency.fair_queue import FairQueue

KEYS = st.sampled_from("abcd")


class AgainstTheRing(RuleBasedStateMachine):
    """The queue serves as a ring of lanes does that is walked, and positions foretell it."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.ring: deque[str] = deque()
        self.lanes: dict[str, list[int]] = {}
        self.pushed = 0

    @rule(key=KEYS)
    def push(self, key: str) -> None:
        """Queue one more."""
        self.pushed += 1
        self.queue.push(self.pushed, key)
        if key not in self.lanes:
            self.ring.append(key)
        self.lanes.setdefault(key, []).append(self.pushed)

    @precondition(lambda self: self.ring)
    @rule()
    def pop(self) -> None:
        """Serve the one whom the ring serves; everybody else moves up by one."""
        forecast = list(self.queue)
        key = self.ring.popleft()
        assert self.queue.pop() == self.lanes[key].pop(0) == forecast[0]
        assert list(self.queue) == forecast[1:]
        if self.lanes[key]:
            self.ring.append(key)
        else:
            del self.lanes[key]

    @precondition(lambda self: self.ring)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Anyone may leave, from anywhere."""
        key = data.draw(st.sampled_from(sorted(self.lanes)))
        item = data.draw(st.sampled_from(self.lanes[key]))
        self.queue.remove(item)
        self.lanes[key].remove(item)
        if not self.lanes[key]:
            self.ring.remove(key)
            del self.lanes[key]

    @invariant()
    def positions_foretell(self) -> None:
        """Whatever has changed, positions count up from 1 in the order of service."""
        positions = [self.queue.position(item) for item in self.queue]
        assert positions == list(range(1, len(self.queue) + 1))

    @invariant()
    def counts_agree(self) -> None:
        """Compare the lengths."""
        assert len(self.queue) == sum(map(len, self.lanes.values()))

    @invariant()
    def nothing_is_kept_of_a_key_without_waiters(self) -> None:
        """Memory is bounded by the number of waiters."""
        assert set(self.queue._lanes) == set(self.lanes)
        assert len(self.queue._key_of) == len(self.queue)


TestAgainstTheRing = AgainstTheRing.TestCase
TestAgainstTheRing.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_new_key_waits_one_round_whatever_others_pile_up() -> None:
    """Behind 500 requests of one key, another key's first is next but one."""
    queue: FairQueue[str] = FairQueue()
    for number in range(500):
        queue.push(f"greedy {number}", "greedy")
    queue.pop()
    queue.push("first", "modest")
    assert queue.position("first") == 2
    assert [queue.pop(), queue.pop()] == ["greedy 1", "first"]


def test_to_come_back_at_once_gains_no_turn() -> None:
    """A key that queues its next item whenever one was served alternates with a patient key."""
    queue: FairQueue[str] = FairQueue()
    for number in range(3):
        queue.push(f"patient {number}", "patient")
    queue.push("eager", "eager")
    served = []
    for _ in range(6):
        served.append(queue.pop())
        if served[-1] == "eager":
            queue.push("eager", "eager")
    assert served == ["patient 0", "eager", "patient 1", "eager", "patient 2", "eager"]


def test_an_item_waits_once() -> None:
    """A second push of an item, a position or removal of a stranger, an empty pop are errors."""
    queue: FairQueue[str] = FairQueue()
    queue.push("item")
    with pytest.raises(ValueError, match="already"):
        queue.push("item", "elsewhere")
    assert queue.pop() == "item"
    for use in (queue.remove, queue.position):
        with pytest.raises(KeyError):
            use("item")
    with pytest.raises(KeyError):
        queue.pop()
