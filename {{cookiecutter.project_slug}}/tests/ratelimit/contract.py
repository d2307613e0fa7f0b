"""What every window promises: the tests that the one in memory and the one on Redis both pass.

A suite inherits `RateLimiterContract` and brings a fixture `window`: a fresh limiter on a clock
that only the test moves.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import pytest

from app.ratelimit.protocol import (
    Budget,
    CostAboveLimit,
    RateLimited,
    RateLimiter,
    RateLimitError,
    Reservation,
)

START = 1_700_000_000_300_000
"""Microseconds; not on a bucket's border."""
MICROSECOND = 1e-6


@dataclass
class Window:
    """A limiter under test."""

    limiter: RateLimiter
    advance: Callable[[float], Awaitable[None]]
    """Moves the clock by so many seconds."""
    settled: Callable[[], Awaitable[None]]
    """Returns when what was settled and corrected has reached the ledger."""

    async def admits(self, *budgets: Budget, tokens: int = 1, requests: int = 1) -> Reservation:
        """Reserve; fails the test where that is refused."""
        await self.settled()
        return await self.limiter.reserve(budgets, tokens=tokens, requests=requests)

    async def refuses(self, *budgets: Budget, tokens: int = 1, requests: int = 1) -> RateLimited:
        """Reserve; fails the test where that is admitted."""
        await self.settled()
        with pytest.raises(RateLimited) as refusal:
            await self.limiter.reserve(budgets, tokens=tokens, requests=requests)
        return refusal.value

    async def left(self, budget: Budget) -> int:
        """Return what is left of a budget."""
        reservation = await self.admits(budget, tokens=0, requests=0)
        return reservation.standings[0].remaining


def tokens(limit: int, key: str = "tier", window: float = 60) -> Budget:
    """Return a budget of tokens."""
    return Budget(key, "tokens", limit, window)


def requests(limit: int, key: str = "tier", window: float = 60) -> Budget:
    """Return a budget of requests."""
    return Budget(key, "requests", limit, window)


class RateLimiterContract:
    """The promises, one a test."""

    async def test_limit_is_reached_and_not_passed(self, window: Window) -> None:
        """Calls are admitted until the limit is used to the last token, and no further."""
        budget = tokens(100)
        for _ in range(4):
            await window.admits(budget, tokens=25)
        refusal = await window.refuses(budget, tokens=1)
        assert (refusal.budget, refusal.cost, refusal.remaining) == (budget, 1, 0)

    async def test_requests_count_by_number(self, window: Window) -> None:
        """A budget of requests counts calls, whatever their tokens."""
        await window.admits(requests(2), tokens=1_000_000)
        await window.admits(requests(2), tokens=0)
        assert (await window.refuses(requests(2), tokens=0)).remaining == 0

    async def test_all_or_nothing(self, window: Window) -> None:
        """A call refused for one budget uses up nothing of the others, wherever that stands."""
        tight, wide, other = tokens(10), requests(5), tokens(1000, "client")
        await window.admits(tight, tokens=10)
        for budgets in ([tight, wide, other], [wide, tight, other], [wide, other, tight]):
            await window.refuses(*budgets, tokens=5)
        assert await window.left(wide) == 5
        assert await window.left(other) == 1000

    @pytest.mark.parametrize("early", [1.0, MICROSECOND])
    async def test_retry_after_is_exact(self, window: Window, early: float) -> None:
        """Who waits `retry_after` out is admitted, and who comes any earlier is refused."""
        budget = tokens(100)
        for cost in (30, 30, 40):
            await window.admits(budget, tokens=cost)
            await window.advance(7.3)
        refusal = await window.refuses(budget, tokens=50)
        assert refusal.retry_after is not None
        await window.advance(refusal.retry_after - early)
        again = await window.refuses(budget, tokens=50)
        assert again.retry_after == pytest.approx(early)
        await window.advance(early)
        await window.admits(budget, tokens=50)

    async def test_retry_after_is_at_most_a_window_and_a_bucket(self, window: Window) -> None:
        """A bucket is a sixtieth of the window: capacity is back after 61/60 of it at most."""
        await window.admits(tokens(10), tokens=10)
        refusal = await window.refuses(tokens(10), tokens=10)
        assert refusal.retry_after is not None
        assert 60 < refusal.retry_after <= 61

    async def test_longest_wait_is_told(self, window: Window) -> None:
        """With several budgets used up, the refusal is of the one that comes back last."""
        first, second = tokens(10, "first"), tokens(10, "second")
        await window.admits(first, tokens=10)
        await window.advance(20)
        await window.admits(second, tokens=10)
        refusal = await window.refuses(first, second)
        assert refusal.budget == second
        assert refusal.retry_after is not None
        await window.advance(refusal.retry_after)
        await window.admits(first, second)

    async def test_cost_above_limit_is_permanent(self, window: Window) -> None:
        """A call that costs more than a whole limit is refused for good, with the figures."""
        small, wide = tokens(100, "small"), tokens(1000, "wide")
        with pytest.raises(CostAboveLimit, match=r"101 tokens .* small:tokens: 100") as refusal:
            await window.admits(wide, small, tokens=101)
        assert refusal.value.retry_after is None
        assert (refusal.value.budget, refusal.value.cost) == (small, 101)
        assert await window.left(wide) == 1000

    async def test_refusals_are_rate_limit_errors(self, window: Window) -> None:
        """Every refusal is a RateLimitError with a type of its own, and names what ran out."""
        await window.admits(tokens(3), tokens=2)
        with pytest.raises(RateLimitError, match=r"tier:tokens: 2 asked for, 1 left of 3 per 60 s"):
            await window.admits(tokens(3), tokens=2)
        assert (RateLimited.type, CostAboveLimit.type) == ("rate_limited", "cost_above_limit")

    async def test_settling_below_gives_back(self, window: Window) -> None:
        """What was reserved and not used is free at once."""
        reservation = await window.admits(tokens(100), requests(9), tokens=80)
        reservation.settle(tokens=30)
        assert await window.left(tokens(100)) == 70
        assert await window.left(requests(9)) == 8

    async def test_settling_below_counts_in_the_original_second(self, window: Window) -> None:
        """What was used leaves the window with the second of the reservation, not of settling."""
        reservation = await window.admits(tokens(100), tokens=80)
        await window.advance(50)
        reservation.settle(tokens=30)
        refusal = await window.refuses(tokens(100), tokens=71)
        assert refusal.retry_after == pytest.approx(10.7)
        await window.advance(10.7)
        assert await window.left(tokens(100)) == 100

    async def test_settling_above_is_a_debt(self, window: Window) -> None:
        """What was used beyond the estimate keeps later calls out, while that second counts."""
        reservation = await window.admits(tokens(100), tokens=10)
        await window.advance(5)
        await window.admits(tokens(100), tokens=40)
        reservation.settle(tokens=120)
        refusal = await window.refuses(tokens(100), tokens=1)
        assert refusal.remaining == 0
        assert refusal.retry_after == pytest.approx(55.7)
        await window.advance(55.7)
        assert await window.left(tokens(100)) == 60

    async def test_debt_of_a_second_that_has_left_counts_from_now(self, window: Window) -> None:
        """A debt is never forgiven: found after its second has left, it counts from now on."""
        reservation = await window.admits(tokens(100), tokens=10)
        await window.advance(90)
        reservation.settle(tokens=70)
        assert await window.left(tokens(100)) == 40
        await window.advance(61)
        assert await window.left(tokens(100)) == 100

    async def test_settling_below_after_the_window_gives_nothing_back(self, window: Window) -> None:
        """A reservation whose second has left the window has nothing to give back."""
        reservation = await window.admits(tokens(100), tokens=80)
        await window.advance(61)
        await window.admits(tokens(100), tokens=50)
        reservation.settle(tokens=0)
        assert await window.left(tokens(100)) == 50

    async def test_unknown_usage_gives_nothing_back(self, window: Window) -> None:
        """Settled without a figure, a reservation keeps its estimate."""
        reservation = await window.admits(tokens(100), tokens=80)
        reservation.settle(tokens=None)
        assert await window.left(tokens(100)) == 20

    async def test_cancelling_gives_everything_back(self, window: Window) -> None:
        """A call that was never made costs no token and no request."""
        reservation = await window.admits(tokens(100), requests(1), tokens=80)
        reservation.cancel()
        assert await window.left(tokens(100)) == 100
        assert await window.left(requests(1)) == 1

    @pytest.mark.parametrize("again", ["settle", "cancel"])
    @pytest.mark.parametrize("first", ["settle", "cancel"])
    async def test_closed_once(self, window: Window, first: str, again: str) -> None:
        """Of several settlements and cancellations the first counts, the others do nothing."""
        reservation = await window.admits(tokens(100), tokens=80)
        close = {"settle": lambda: reservation.settle(tokens=50), "cancel": reservation.cancel}
        close[first]()
        close[again]()
        assert await window.left(tokens(100)) == {"settle": 50, "cancel": 100}[first]

    async def test_reservations_of_one_second_settle_apart(self, window: Window) -> None:
        """Reservations of the same second share a bucket, and each gives back its own."""
        one, two = [await window.admits(tokens(100), tokens=40) for _ in range(2)]
        one.cancel()
        two.settle(tokens=10)
        assert await window.left(tokens(100)) == 90

    async def test_standings_tell_what_is_left_and_when_more_comes(self, window: Window) -> None:
        """A decision tells of each budget what is left and when some of it comes back."""
        fresh = await window.admits(tokens(100), requests(3), tokens=0, requests=0)
        assert [(s.remaining, s.reset) for s in fresh.standings] == [(100, 0), (3, 0)]
        await window.admits(tokens(100), tokens=30)
        await window.advance(20)
        later = await window.admits(tokens(100), requests(3), tokens=10)
        assert [(s.budget, s.remaining) for s in later.standings] == [
            (tokens(100), 60),
            (requests(3), 2),
        ]
        assert [s.reset for s in later.standings] == pytest.approx([40.7, 60.7])
        refusal = await window.refuses(tokens(100), requests(3), tokens=61)
        assert [s.remaining for s in refusal.standings] == [60, 2]

    async def test_correction_lowers_what_is_left(self, window: Window) -> None:
        """What the provider counts and we do not is taken off, for as long as it says."""
        await window.admits(tokens(100), tokens=10)
        window.limiter.correct(tokens(100), remaining=20, reset=5)
        assert await window.left(tokens(100)) == 20
        refusal = await window.refuses(tokens(100), tokens=21)
        assert refusal.retry_after is not None
        assert 5 <= refusal.retry_after < 6
        await window.advance(refusal.retry_after)
        assert await window.left(tokens(100)) == 90

    async def test_correction_ends_with_a_bucket(self, window: Window) -> None:
        """A correction that ends where a bucket does ends just there."""
        await window.advance(0.7)
        window.limiter.correct(tokens(100), remaining=0, reset=5)
        assert (await window.refuses(tokens(100))).retry_after == 5

    async def test_correction_never_raises(self, window: Window) -> None:
        """A provider that sees more left than we do changes nothing."""
        await window.admits(tokens(100), tokens=90)
        window.limiter.correct(tokens(100), remaining=50, reset=5)
        assert await window.left(tokens(100)) == 10

    @pytest.mark.parametrize("reset", [None, 60.0, 3600.0])
    async def test_correction_lasts_a_window_at_most(
        self, window: Window, reset: float | None
    ) -> None:
        """Without an end, or with one far away, a correction counts for a window."""
        window.limiter.correct(tokens(100), remaining=0, reset=reset)
        refusal = await window.refuses(tokens(100))
        assert refusal.retry_after is not None
        assert 60 <= refusal.retry_after <= 61

    async def test_budgets_may_have_windows_of_their_own(self, window: Window) -> None:
        """A key may have several windows, as so many a second and so many a minute."""
        second, minute = requests(1, "burst", window=1), requests(4, window=60)
        for _ in range(3):
            await window.admits(second, minute)
            refusal = await window.refuses(second, minute)
            assert refusal.budget == second
            assert refusal.retry_after is not None
            await window.advance(refusal.retry_after)
        await window.admits(second, minute)
        assert (await window.refuses(second, minute)).budget == minute

    async def test_same_key_with_another_window_is_another_budget(self, window: Window) -> None:
        """Changing a window starts a new ledger: the buckets of one mean nothing in another."""
        await window.admits(tokens(10, window=60), tokens=10)
        assert await window.left(tokens(10, window=30)) == 10

    async def test_lowered_limit_counts_at_once(self, window: Window) -> None:
        """A limit may change at any time; what was admitted under the old one still counts."""
        await window.admits(tokens(100), tokens=60)
        await window.refuses(tokens(50), tokens=1)
        await window.admits(tokens(70), tokens=10)

    async def test_check_refuses_what_is_known_to_be_refused(self, window: Window) -> None:
        """At the door a budget known to be used up is refused like a reservation would be."""
        (await window.admits(tokens(100), tokens=100)).settle(tokens=100)
        await window.advance(5)
        refused = await window.refuses(tokens(100), requests(5))
        with pytest.raises(RateLimited) as refusal:
            window.limiter.check([requests(5), tokens(100)])
        assert refusal.value.retry_after == refused.retry_after
        assert (refusal.value.budget, refusal.value.cost) == (tokens(100), 1)
        with pytest.raises(CostAboveLimit):
            window.limiter.check([tokens(100)], tokens=101)

    async def test_check_reserves_nothing(self, window: Window) -> None:
        """To be let past the door costs nothing and promises nothing."""
        for _ in range(3):
            window.limiter.check([tokens(10), requests(1)], tokens=10)
        reservation = await window.admits(tokens(10), requests(1), tokens=10)
        assert [s.remaining for s in reservation.standings] == [0, 0]

    async def test_no_budget_admits(self, window: Window) -> None:
        """Where nothing is limited everything is admitted."""
        reservation = await window.admits(tokens=10**9)
        assert reservation.standings == ()
        reservation.settle(tokens=1)

    @pytest.mark.parametrize(
        ("budgets", "cost"),
        [([tokens(9)], -1), ([tokens(9), tokens(10)], 1)],
        ids=["negative", "twice"],
    )
    async def test_nonsense_is_refused(
        self, window: Window, budgets: Sequence[Budget], cost: int
    ) -> None:
        """A negative cost, or a budget named twice, is a mistake in the program."""
        with pytest.raises(ValueError, match=r"must not be negative|occurs twice"):
            await window.admits(*budgets, tokens=cost)

    async def test_negative_usage_is_refused(self, window: Window) -> None:
        """A call cannot have used less than nothing."""
        reservation = await window.admits(tokens(9), tokens=5)
        with pytest.raises(ValueError, match="must not be negative"):
            reservation.settle(tokens=-1)
        assert await window.left(tokens(9)) == 4
