"""The arithmetic of one budget's sliding window: sixty buckets and their sum.

A ledger counts what was admitted in each sixtieth of the window. A bucket counts
until all of it is older than the window, so what the ledger counts is never less
than what any window holds: an upper bound, not an approximation. That costs at
most one bucket of capacity (60/61 = 98.4 % of the limit can be used), and takes
the same memory for a limit of ten as of ten million.

Times are whole microseconds on a clock that never goes backwards; whoever keeps a
ledger passes `now` in, and calls `expire` before asking. Needs: the standard library.
"""

BUCKETS = 60
MICROSECONDS = 1_000_000


class Ledger:
    """What was admitted in the last window, bucket by bucket."""

    __slots__ = ("_buckets", "used", "width", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.width = -(-window // BUCKETS)
        self.used = 0
        self._buckets: dict[int, int] = {}  # ascending: the first is the oldest

    def expire(self, now: int) -> None:
        """Forget the buckets that are wholly older than the window."""
        while self._buckets:
            oldest = next(iter(self._buckets))
            if self._leaves(oldest) > now:
                return
            self.used -= self._buckets.pop(oldest)

    def add(self, cost: int, now: int) -> int:
        """Count a cost from now on; return its bucket, for `settle`."""
        bucket = now // self.width
        self._put(bucket, cost)
        return bucket

    def settle(self, bucket: int, *, reserved: int, actual: int, now: int) -> None:
        """Count what was used instead of what was reserved, in the reservation's own bucket.

        Where that bucket has left the window, a debt counts from now on.
        """
        if self._leaves(bucket) > now:
            self._put(bucket, actual - reserved)
        elif actual > reserved:
            self.add(actual - reserved, now)

    def hold(self, cost: int, duration: int, now: int) -> None:
        """Count a cost for this long, to the next bucket's end; at most a window."""
        past = now + duration - self.window
        self._put(min(-(-past // self.width) - 1, now // self.width), cost)

    def wait(self, cost: int, limit: int, now: int) -> int:
        """Return how long it takes until a cost of at most the limit fits: 0 where it does now."""
        excess = self.used + cost - limit
        for bucket, used in self._buckets.items() if excess > 0 else ():
            excess -= used
            if excess <= 0:
                return self._leaves(bucket) - now
        return 0

    def reset(self, now: int) -> int:
        """Return how long it takes until some of it comes back: 0 where none is used."""
        return self._leaves(next(iter(self._buckets))) - now if self._buckets else 0

    def used_since(self, start: int) -> int:
        """Return what counts in the bucket of this time and later ones."""
        first = start // self.width
        return sum(used for bucket, used in self._buckets.items() if bucket >= first)

    def _leaves(self, bucket: int) -> int:
        """Return when all of the bucket is older than the window."""
        return (bucket + 1) * self.width + self.window

    def _put(self, bucket: int, cost: int) -> None:
        newest = next(reversed(self._buckets), bucket)
        self.used += cost
        self._buckets[bucket] = self._buckets.get(bucket, 0) + cost
        if not self._buckets[bucket]:
            del self._buckets[bucket]
        elif bucket < newest:
            self._buckets = dict(sorted(self._buckets.items()))
