"""What every rate limiter guarantees; the one in memory and the one on Redis pass these tests.

A suite inherits `RateLimiterContract` and has a fixture `window`: a fresh limiter on a clock that
only the test moves.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from app.ratelimit.base import Budget, CostAboveLimit, RateLimited, Reservation
from app.ratelimit.memory import RateLimiter

START = 1_700_000_000_300_000
"""Microseconds; 0.7 s before the end of a bucket."""


@dataclass
class Window:
    """A limiter under test."""

    limiter: RateLimiter
    advance: Callable[[float], Awaitable[None]]
    """Moves the clock by so many seconds."""
    settled: Callable[[], Awaitable[None]]
    """Returns when settlements and corrections count."""

    async def admits(self, *budgets: Budget, tokens: int = 1) -> Reservation:
        """Reserve; fail the test if that is refused."""
        await self.settled()
        return await self.limiter.reserve(budgets, tokens=tokens)

    async def refuses(self, *budgets: Budget, tokens: int = 1) -> tuple[Budget, float]:
        """Reserve; fail the test if that is admitted. Return the budget and the wait."""
        await self.settled()
        with pytest.raises(RateLimited) as refusal:
            await self.limiter.reserve(budgets, tokens=tokens)
        assert refusal.value.retry_after is not None
        return refusal.value.budget, refusal.value.retry_after

    async def left(self, budget: Budget) -> int:
        """Return what is left of a budget."""
        try:
            nothing = await self.admits(budget, tokens=0)
        except RateLimited as refusal:
            return refusal.statuses[0].remaining
        nothing.cancel()
        await self.settled()
        return nothing.statuses[0].remaining + (budget.unit == "requests")


def tokens(limit: int, key: str = "tier", window: float = 60) -> Budget:
    """Return a budget of tokens."""
    return Budget(key, "tokens", limit, window)


def requests(limit: int, key: str = "tier", window: float = 60) -> Budget:
    """Return a budget of requests."""
    return Budget(key, "requests", limit, window)


class RateLimiterContract:
    """The guarantees, one per test."""

    async def test_all_or_nothing(self, window: Window) -> None:
        """Calls are admitted until one of their budgets is used; refused ones use up nothing."""
        tight, wide, other = tokens(100), requests(9), tokens(1000, "client")
        for _ in range(4):
            await window.admits(wide, tight, other, tokens=25)
        for budgets in ([tight, wide, other], [wide, tight, other], [wide, other, tight]):
            assert (await window.refuses(*budgets))[0] == tight
        assert [await window.left(wide), await window.left(other)] == [5, 900]

    async def test_refusals_name_the_figures(self, window: Window) -> None:
        """A refusal says what was asked for and left; one above a whole limit is permanent."""
        await window.admits(tokens(3), tokens=2)
        with pytest.raises(RateLimited, match=r"tier:tokens: 2 asked for, 1 left of 3 per 60 s"):
            await window.admits(tokens(3), tokens=2)
        message = r"101 tokens .* small:tokens: 100 per 60 s"
        with pytest.raises(CostAboveLimit, match=message) as refusal:
            await window.admits(tokens(1000), tokens(100, "small"), tokens=101)
        assert refusal.value.retry_after is None
        assert await window.left(tokens(1000)) == 998

    @pytest.mark.parametrize(
        ("elapsed", "used", "left", "whole_after"),
        [
            (0, 30, 70, 60.7),
            (0, None, 20, 60.7),
            (0, 120, 0, 60.7),
            (50, 30, 70, 10.7),
            (50, 120, 0, 10.7),
            (61, 0, 100, 0),
            (61, None, 100, 0),
            (90, 70, 100, 0),
            (90, 90, 90, 60.7),
        ],
    )
    async def test_settling(
        self, window: Window, elapsed: float, used: int | None, left: int, whole_after: float
    ) -> None:
        """Usage counts in the second of the reservation; above the estimate, it always counts."""
        reservation = await window.admits(tokens(100), requests(9), tokens=80)
        await window.advance(elapsed)
        reservation.settle(tokens=used)
        assert await window.left(tokens(100)) == left
        assert await window.left(requests(9)) == (8 if elapsed < 60 else 9)
        if whole_after:
            _, wait = await window.refuses(tokens(100), tokens=100)
            assert wait == pytest.approx(whole_after)
        await window.advance(whole_after)
        await window.admits(tokens(100), tokens=100)

    @pytest.mark.parametrize("again", ["settle", "cancel"])
    @pytest.mark.parametrize(("first", "left"), [("settle", [130, 7]), ("cancel", [180, 8])])
    async def test_closed_once(
        self, window: Window, first: str, left: list[int], again: str
    ) -> None:
        """The first settlement or cancellation counts; cancelling gives everything back."""
        await window.admits(tokens(200), requests(9), tokens=20)
        reservation = await window.admits(tokens(200), requests(9), tokens=80)
        close = {"settle": lambda: reservation.settle(tokens=50), "cancel": reservation.cancel}
        close[first]()
        close[again]()
        assert [await window.left(budget) for budget in (tokens(200), requests(9))] == left

    async def test_statuses(self, window: Window) -> None:
        """Decisions and refusals tell what is left of each budget and when some comes back."""
        fresh = await window.admits(tokens(100), tokens=0)
        await window.admits(tokens(100), tokens=30)
        await window.advance(20)
        later = await window.admits(tokens(100), requests(3), tokens=10)
        with pytest.raises(RateLimited) as refusal:
            await window.admits(tokens(100), requests(3), tokens=61)
        for statuses, expected in [
            (fresh.statuses, [(tokens(100), 100, 0)]),
            (later.statuses, [(tokens(100), 60, 40.7), (requests(3), 2, 60.7)]),
            (refusal.value.statuses, [(tokens(100), 60, 40.7), (requests(3), 2, 60.7)]),
        ]:
            assert [(s.budget, s.remaining, round(s.reset, 6)) for s in statuses] == expected

    @pytest.mark.parametrize(
        ("remaining", "reset", "left", "wait"),
        [(20, 5, 20, 5.7), (20, 5.7, 20, 5.7), (95, 5, 90, 0), (0, None, 0, 60.7),
         (0, 60, 0, 60.7), (0, 3600, 0, 60.7), (0, 0, 0, 0.7)],
    )  # fmt: skip
    async def test_correction(
        self, window: Window, remaining: int, reset: float | None, left: int, wait: float
    ) -> None:
        """The provider's count lowers what is left, until its reset or for a window; never more."""
        await window.admits(tokens(100), tokens=10)
        window.limiter.correct(tokens(100), remaining=remaining, reset=reset)
        assert await window.left(tokens(100)) == left
        if wait:
            assert (await window.refuses(tokens(100), tokens=21))[1] == pytest.approx(wait)
            await window.advance(wait)
        assert await window.left(tokens(100)) == (100 if wait == 60.7 else 90)

    async def test_each_window_has_its_own_ledger(self, window: Window) -> None:
        """Windows of other lengths count for themselves; another limit of the same one does not."""
        second, minute = requests(1, "burst", window=1), requests(4)
        for _ in range(4):
            await window.admits(second, minute)
            await window.advance((await window.refuses(second))[1])
        assert (await window.refuses(second, minute))[0] == minute
        assert await window.left(requests(4, window=30)) == 4
        assert await window.left(requests(7)) == 3

    async def test_mistakes(self, window: Window) -> None:
        """A negative cost or usage, or a budget named twice, is a ValueError; no budget is none."""
        (await window.admits(tokens=10**9)).settle(tokens=1)
        for budgets, cost in [([tokens(9)], -1), ([tokens(9), tokens(10)], 1)]:
            with pytest.raises(ValueError, match=r"must not be negative|occurs twice"):
                await window.admits(*budgets, tokens=cost)
        reservation = await window.admits(tokens(9), tokens=5)
        with pytest.raises(ValueError, match="must not be negative"):
            reservation.settle(tokens=-1)
        assert await window.left(tokens(9)) == 4
