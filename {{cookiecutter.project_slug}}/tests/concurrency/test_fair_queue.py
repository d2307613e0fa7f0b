"""Turns go round the keys; checked against the textbook's walk over a ring."""

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.concurrency.fair_queue import FairQueue

KEYS = st.sampled_from("abcd")
POSITIVE = st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0])


class AgainstTheRing(RuleBasedStateMachine):
    """With equal costs and weights, the queue serves as a ring of lanes does that is walked."""

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
        """Serve the one whom the ring serves."""
        key = self.ring.popleft()
        assert self.queue.pop() == self.lanes[key].pop(0)
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
    def counts_agree(self) -> None:
        """Compare the lengths, in all and by key."""
        assert len(self.queue) == sum(map(len, self.lanes.values()))
        assert all(self.queue.waiting(k) == len(self.lanes.get(k, [])) for k in "abcd")

    @invariant()
    def nothing_is_kept_of_a_key_without_waiters(self) -> None:
        """Memory is bounded by the number of waiters."""
        assert set(self.queue._lanes) == set(self.lanes)
        assert len(self.queue._turns) == len(self.lanes)
        assert len(self.queue._key_of) == len(self.queue)


TestAgainstTheRing = AgainstTheRing.TestCase
TestAgainstTheRing.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class Forecasts(RuleBasedStateMachine):
    """Whatever the costs and weights and whoever has left, positions are what `pop` then does."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue()
        self.waiting: dict[int, str] = {}
        self.pushed = 0

    @rule(key=KEYS, cost=POSITIVE, weight=POSITIVE)
    def push(self, key: str, cost: float, weight: float) -> None:
        """Queue one more."""
        self.pushed += 1
        self.queue.push(self.pushed, key, cost=cost, weight=weight)
        self.waiting[self.pushed] = key

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Anyone may leave, from anywhere."""
        item = data.draw(st.sampled_from(sorted(self.waiting)))
        self.queue.remove(item)
        del self.waiting[item]

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        """Positions are 1, 2, 3 … in the order of service, and oldest first inside a key."""
        forecast = sorted(self.waiting, key=self.queue.position)
        positions = [self.queue.position(item) for item in forecast]
        assert positions == list(range(1, len(self.waiting) + 1))
        item = self.queue.pop()
        assert item == forecast[0]
        assert list(self.queue) == forecast[1:]
        key = self.waiting.pop(item)
        assert item < min((i for i, k in self.waiting.items() if k == key), default=item + 1)


TestForecasts = Forecasts.TestCase
TestForecasts.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


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


@given(
    st.lists(
        st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.integers(1, 20)), min_size=2, max_size=5
    ),
    st.integers(1, 200),
)
def test_busy_keys_share_by_weight_to_within_one_item_each(
    lanes: list[tuple[float, int]], pops: int
) -> None:
    """Service over weight differs between two busy keys by at most one item of each."""
    queue: FairQueue[tuple[int, int]] = FairQueue()
    for key, (weight, cost) in enumerate(lanes):
        for number in range(pops):
            queue.push((key, number), str(key), cost=cost, weight=weight)
    rounds = [0.0] * len(lanes)
    for _ in range(pops):
        key, _ = queue.pop()
        rounds[key] += lanes[key][1] / lanes[key][0]
        for mine, (weight, cost) in zip(rounds, lanes, strict=True):
            for other, (other_weight, other_cost) in zip(rounds, lanes, strict=True):
                assert mine - other <= cost / weight + other_cost / other_weight + 1e-9


def test_a_canceled_expensive_item_is_not_charged() -> None:
    """Whoever takes its expensive first item out has its cheap second one served in time."""
    queue: FairQueue[str] = FairQueue()
    queue.push("expensive", "a", cost=100)
    queue.push("cheap", "a", cost=1)
    for number in range(5):
        queue.push(f"b {number}", "b", cost=1)
    queue.remove("expensive")
    assert queue.position("cheap") == 1


def test_a_forecast_breaks_ties_as_pop_does() -> None:
    """Of two turns in the same round, the lane that has just been served comes second."""
    queue: FairQueue[str] = FairQueue()
    queue.push("a0", "a", cost=0.5)
    queue.push("a1", "a", cost=1.0)
    queue.push("b0", "b", cost=1.5)
    assert [queue.position(item) for item in ("a0", "b0", "a1")] == [1, 2, 3]
    queue.pop()
    assert [queue.position(item) for item in ("b0", "a1")] == [1, 2]


def test_rounds_are_counted_anew_when_nobody_waits() -> None:
    """So that small costs are told apart however much has been served before."""
    queue: FairQueue[str] = FairQueue()
    queue.push("huge", cost=1e17)
    queue.pop()
    queue.push("two", "a", cost=2.0)
    queue.push("one", "b", cost=1.0)
    assert queue.pop() == "one"


@pytest.mark.parametrize(
    ("cost", "weight"), [(0, 1), (-1, 1), (1, 0), (1, -1), (float("inf"), 1), (1, float("nan"))]
)
def test_a_cost_or_weight_that_is_not_positive_is_refused(cost: float, weight: float) -> None:
    """The message names both values."""
    with pytest.raises(ValueError, match=f"cost {cost} and weight {weight}"):
        FairQueue[str]().push("item", cost=cost, weight=weight)


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
    with pytest.raises(IndexError):
        queue.pop()
