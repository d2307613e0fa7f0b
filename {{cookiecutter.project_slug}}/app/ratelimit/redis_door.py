"""What this process knows of budgets that are used up, to refuse without a round trip.

A refusal by the server comes with the ledger as it stood. Most of that may come
free at any moment, as other processes settle or cancel; what is *firm*, settled,
cannot. While the firm part alone leaves no room for a call, the server would refuse
it whatever has happened since, so it is refused here. `retry_after` is as exact
as the last answer of the server.

Needs: `ledger` and `protocol`.
"""

from collections.abc import Callable, Sequence

from .ledger import MICROSECONDS, Ledger
from .protocol import Budget, RateLimited, Standing

MEMOS = 1024
"""Budgets remembered at most; the one longest known goes first."""


class _Memo:
    """A ledger as the server described it: bucket, used, firm of each bucket, at ledger time."""

    __slots__ = ("ahead", "delay", "firm", "used")

    def __init__(self, budget: Budget, buckets: Sequence[int], *, ahead: int, delay: int) -> None:
        self.ahead = ahead
        self.delay = delay
        self.used, self.firm = (Ledger(round(budget.window * MICROSECONDS)) for _ in range(2))
        for bucket, used, firm in zip(buckets[::3], buckets[1::3], buckets[2::3], strict=True):
            self.used.add(used, bucket * self.used.width)
            self.firm.add(firm, bucket * self.firm.width)


class Door:
    """Refuses what the server is known to refuse. `clock`: seconds that never go backwards."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._memos: dict[Budget, _Memo] = {}

    def remember(self, budget: Budget, buckets: Sequence[int], *, now: int, asked: float) -> None:
        """Keep a ledger that the server described: `now` by its time, `asked` by our clock.

        The server looked at some moment between our question and its answer. Taken for the first,
        nothing is refused that it would admit; taken for the second, waiting is long enough.
        """
        self._memos.pop(budget, None)
        if len(self._memos) >= MEMOS:
            del self._memos[next(iter(self._memos))]
        sent = round(asked * MICROSECONDS)
        delay = round(self._clock() * MICROSECONDS) - sent
        self._memos[budget] = _Memo(budget, buckets, ahead=now - sent, delay=delay)

    def check(self, budgets: Sequence[Budget], costs: Sequence[int]) -> None:
        """Raise RateLimited where a budget is known to have too little left."""
        for budget, cost in zip(budgets, costs, strict=True):
            if (memo := self._memos.get(budget)) is not None:
                self._check(budget, cost, memo)

    def _check(self, budget: Budget, cost: int, memo: _Memo) -> None:
        now = round(self._clock() * MICROSECONDS) + memo.ahead
        memo.firm.expire(now)
        memo.used.expire(now)
        if memo.firm.wait(cost, budget.limit, now):
            remaining = max(0, budget.limit - memo.used.used)
            standing = Standing(budget, remaining, memo.used.reset(now) / MICROSECONDS)
            wait = memo.used.wait(cost, budget.limit, now) + memo.delay
            raise RateLimited(
                budget, cost=cost, retry_after=wait / MICROSECONDS, standings=(standing,)
            )
