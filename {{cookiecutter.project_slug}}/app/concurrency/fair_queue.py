"""A queue that serves its keys in turn, whatever each of them piles up.

A FIFO in front of a scarce service belongs to whoever sends most: one client with 500 waiting
requests delays everybody else's next one by 500 calls. Here each key has a lane of its own, in
order of arrival, and the lanes are served round robin, one item each.

Guarantees: first in, first out within a key. A key's first waiter is served within one round, so
every other key is served at most once before it. Leaving and coming back gains nothing, as a new
lane starts at the end of the round. Nothing is kept of a key that has no waiter, so memory is
bounded by the number of waiters.

Needs the standard library only, knows no event loop, and is not thread-safe.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """Hashable items, each waiting once, served round robin among their keys.

    `push`, `pop` and `remove` take constant time. The first `position` after a change takes O(n);
    the next ones share its result.
    """

    def __init__(self) -> None:
        # Linked lists: taking the first of a plain dict again and again is quadratic.
        self._lanes: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()  # the next is first
        self._key_of: dict[T, str] = {}
        self._positions: dict[T, int] = {}

    def __len__(self) -> int:
        return len(self._key_of)

    def __iter__(self) -> Iterator[T]:
        """Yield all items in the order in which `pop` would, as long as nothing changes."""
        lanes = deque(iter(lane) for lane in self._lanes.values())
        while lanes:
            lane = lanes.popleft()
            for item in lane:
                yield item
                lanes.append(lane)
                break

    def push(self, item: T, key: str = "") -> None:
        """Append to the key's lane; ValueError for an item that waits already."""
        if item in self._key_of:
            raise ValueError(f"{item!r} is in the queue already")
        self._lanes.setdefault(key, OrderedDict())[item] = None
        self._key_of[item] = key
        self._positions.clear()

    def pop(self) -> T:
        """Remove and return the item that is served next; KeyError when there is none."""
        key, lane = self._lanes.popitem(last=False)
        item, _ = lane.popitem(last=False)
        if lane:
            self._lanes[key] = lane  # at the end of the round
        del self._key_of[item]
        self._positions.clear()
        return item

    def remove(self, item: T) -> None:
        """Take an item out, wherever it stands; KeyError when it is not here."""
        key = self._key_of.pop(item)
        del self._lanes[key][item]
        if not self._lanes[key]:
            del self._lanes[key]
        self._positions.clear()

    def position(self, item: T) -> int:
        """Say how many `pop`s bring this item out as things stand; 1 is next; KeyError if none."""
        if not self._positions:
            self._positions = {item: number for number, item in enumerate(self, start=1)}
        return self._positions[item]
