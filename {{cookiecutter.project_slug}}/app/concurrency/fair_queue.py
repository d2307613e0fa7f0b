"""A queue that serves its keys in fair turns, whatever each of them piles up.

Needs the standard library only, knows no event loop, and is not thread-safe.

A FIFO in front of a scarce service belongs to whoever sends most: one client with 500 waiting
requests delays everybody else's next one by 500 turns. Here each key has a lane of its own, in
order of arrival, and free places go round the lanes. An item costs 1, or the tokens it is going
to use; a key of weight 2 gets twice the share of a key of weight 1.

The discipline is deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) with its rounds
reckoned instead of walked. Rather than visit every lane again and again and top up its deficit
until the head is affordable, each lane carries the round in which that will be so (the round of
its last turn, plus cost / weight), and the lane with the earliest round is served, ties in order
of arrival. In the literature: self-clocked fair queueing (Golestani, INFOCOM 1994). There is no
quantum to tune, and a cost of 100,000 takes no longer to schedule than a cost of 1.

Guarantees:
- first in, first out inside one key;
- a key's first waiter is served within one round: at equal costs and weights, every other key is
  served at most once before it, however much that key has waiting;
- between keys that all have waiters, service is in the ratio of their weights, to within one
  item of each;
- nothing is kept of a key that has no waiter, so memory is bounded by the number of waiters; and
  to leave and come back gains nothing, as a lane always starts a turn behind the current round.

With n items under k keys, `push`, `pop` and `remove` take O(log k) comparisons and at most two
block moves of k pointers. The first look at `position` p takes O(k + p log k); all who look
before the next change share that work.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from heapq import heappop, heapreplace
from itertools import count
from math import inf
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)


class _Turn(NamedTuple):
    """When a lane's first item is due; the ticket breaks ties, so that keys are never compared."""

    round: float
    ticket: int
    key: str


class _Lane(Generic[T]):
    """The items of one key, first come first, each with the rounds it costs."""

    __slots__ = ("items", "turn")

    def __init__(self, turn: _Turn) -> None:
        # A linked list: taking the first of a plain dict again and again is quadratic.
        self.items: OrderedDict[T, float] = OrderedDict()
        self.turn = turn


def rounds_for(cost: float, weight: float) -> float:
    """Return how many rounds of its key an item takes; ValueError unless positive and finite."""
    rounds = cost / weight if weight > 0 else 0.0
    if not 0 < rounds < inf:
        raise ValueError(f"cost {cost} and weight {weight} must be positive and finite")
    return rounds


class FairQueue(Generic[T]):
    """Hashable items, each waiting once, that come out in fair turns among their keys."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane[T]] = {}
        self._key_of: dict[T, str] = {}
        self._turns: list[_Turn] = []  # one a lane, sorted
        self._tickets = 0
        self._round = 0.0
        self._changed()

    def __len__(self) -> int:
        return len(self._key_of)

    def __iter__(self) -> Iterator[T]:
        """Yield all items in the order in which `pop` would, as long as nothing changes."""
        heap = []  # as the turns are sorted, this is a heap from the start
        for due, ticket, key in self._turns:
            lane = iter(self._lanes[key].items.items())
            heap.append((due, ticket, next(lane)[0], lane))
        for ticket in count(self._tickets + 1):
            if not heap:
                return
            due, _, item, lane = heap[0]
            yield item
            if following := next(lane, None):
                heapreplace(heap, (due + following[1], ticket, following[0], lane))
            else:
                heappop(heap)

    def waiting(self, key: str) -> int:
        """Count the items under one key."""
        lane = self._lanes.get(key)
        return len(lane.items) if lane else 0

    def push(self, item: T, key: str = "", *, cost: float = 1.0, weight: float = 1.0) -> None:
        """Append to the key's lane; ValueError for an item that waits already or a bad cost."""
        if item in self._key_of:
            raise ValueError(f"{item!r} is in the queue already")
        rounds = rounds_for(cost, weight)
        if key not in self._lanes:
            self._lanes[key] = _Lane(self._schedule(key, self._round + rounds, self._new_ticket()))
        self._lanes[key].items[item] = rounds
        self._key_of[item] = key
        self._changed()

    def pop(self) -> T:
        """Remove and return the item whose turn it is; IndexError when there is none."""
        turn = self._turns[0]
        item = next(iter(self._lanes[turn.key].items))
        self._round = turn.round
        self._remove_first(turn, since=turn.round, ticket=self._new_ticket())
        del self._key_of[item]
        self._changed()
        return item

    def remove(self, item: T) -> None:
        """Take an item out, wherever it stands; KeyError when it is not here."""
        lane = self._lanes[self._key_of.pop(item)]
        if next(iter(lane.items)) is item:
            # The next one moves up to the turn that this one did not take.
            since = lane.turn.round - lane.items[item]
            self._remove_first(lane.turn, since=since, ticket=lane.turn.ticket)
        else:
            del lane.items[item]
        self._changed()

    def position(self, item: T) -> int:
        """Say how many `pop`s bring this item out as things stand; 1 is next; KeyError if none."""
        self._key_of[item]
        while item not in self._positions:
            self._positions[next(self._forecast)] = len(self._positions) + 1
        return self._positions[item]

    def _remove_first(self, turn: _Turn, *, since: float, ticket: int) -> None:
        """Drop a lane's first item and reckon the next one's turn from the round `since`."""
        lane = self._lanes[turn.key]
        del self._turns[bisect_left(self._turns, turn)]
        lane.items.popitem(last=False)
        if lane.items:
            due = since + next(iter(lane.items.values()))
            lane.turn = self._schedule(turn.key, due, ticket)
        else:
            del self._lanes[turn.key]

    def _schedule(self, key: str, due: float, ticket: int) -> _Turn:
        turn = _Turn(due, ticket, key)
        insort(self._turns, turn)
        return turn

    def _new_ticket(self) -> int:
        self._tickets += 1
        return self._tickets

    def _changed(self) -> None:
        """Forget the forecast, and start the clock again when nobody waits (floats are finite)."""
        if not self._lanes:
            self._round = 0.0
        self._positions: dict[T, int] = {}
        self._forecast = iter(self)
