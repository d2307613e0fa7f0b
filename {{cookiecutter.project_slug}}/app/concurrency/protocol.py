"""What a limiter says to its callers: its refusals, and its numbers for metrics."""

from dataclasses import dataclass
from typing import ClassVar


class LimiterError(Exception):
    """No slot for this call.

    `type` is the error's name on the wire; `retry_after`, in seconds, is an estimate of when to
    come back, at least 1, or None where coming back does not help.
    """

    type: ClassVar[str] = "limiter_error"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(LimiterError):  # noqa: N818 -- named like asyncio.QueueFull
    """As many calls wait as may wait, in all or under this key."""

    type = "queue_full"


class QueueTimeout(LimiterError):  # noqa: N818
    """No slot came free before the deadline, or it is clear that none will."""

    type = "queue_timeout"


@dataclass(frozen=True, slots=True)
class LimiterSnapshot:
    """A limiter's state now, and its counts since it was made.

    Each call is in just one of `in_flight`, `queued`, `released` (its slot given back), `refused`
    (the queue was full), `shed` (turned away early, as it could not have made its deadline),
    `timed_out` (waited up to its deadline) and `abandoned` (left the queue of its own accord, as
    by cancellation).
    """

    limit: int
    in_flight: int
    queued: int
    released: int
    refused: int
    shed: int
    timed_out: int
    abandoned: int
    waited_seconds: float
    """Queue wait of all calls that got a slot, added up."""

    @property
    def granted(self) -> int:
        """Slots given out."""
        return self.in_flight + self.released
