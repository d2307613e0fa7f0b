"""What was booked under several budgets, to be settled or cancelled exactly once.

Both windows, the one in memory and the one on Redis, hand these out; each says with
`close` how it books the difference. Needs: the standard library and `protocol`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .protocol import Budget, Standing


class Booking(NamedTuple):
    """A cost in one bucket of one budget's ledger."""

    budget: Budget
    bucket: int
    cost: int


Close = Callable[[Sequence[Booking], Sequence[int]], None]
"""Replaces each booking's cost by what was used; must not wait."""


class BookedReservation:
    """Costs that are booked; the first of `settle` and `cancel` closes them, later ones do nothing.

    `standings`: how each budget stood when this was admitted.
    """

    __slots__ = ("_bookings", "_close", "standings")

    def __init__(
        self, bookings: Sequence[Booking], standings: tuple[Standing, ...], close: Close
    ) -> None:
        self._bookings = bookings
        self._close: Close | None = close
        self.standings = standings

    def settle(self, *, tokens: int | None) -> None:
        """Replace the estimate by the `tokens` really used; None, unknown, keeps the estimate."""
        if tokens is not None and tokens < 0:
            raise ValueError(f"tokens used must not be negative, they are {tokens}")
        self._finish(
            [
                booking.cost if tokens is None or booking.budget.unit == "requests" else tokens
                for booking in self._bookings
            ]
        )

    def cancel(self) -> None:
        """Give everything back: the call was never made."""
        self._finish([0] * len(self._bookings))

    def _finish(self, used: Sequence[int]) -> None:
        close, self._close = self._close, None
        if close is not None and self._bookings:
            close(self._bookings, used)
