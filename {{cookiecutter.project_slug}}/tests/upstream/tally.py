"""Counts of what the fake upstream saw, and waits until a count is reached.

Tests are ordered by these waits, never by sleeping: `await upstream.wait_aborted(1)`.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(slots=True)
class Counts:
    """What happened so far.

    `live` requests are received and not ended, `peak` is the most there ever were; `held` of
    them are on HOLD.
    Each ends in one way: `completed` (sent whole, also an error status), `aborted` (the
    client closed the connection) or `cut` (the script did). `connections` counts
    those accepted, `open_connections` those not yet closed.
    """

    received: int = 0
    live: int = 0
    peak: int = 0
    held: int = 0
    completed: int = 0
    aborted: int = 0
    cut: int = 0
    connections: int = 0
    open_connections: int = 0


class Tally:
    """The counts, kept up to date, and a wait on them."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._changed = asyncio.Event()

    @property
    def counts(self) -> Counts:
        """A copy of the counts as they are now."""
        return replace(self._counts)

    def connected(self) -> None:
        """Count a connection."""
        self._counts.connections += 1
        self._counts.open_connections += 1
        self._announce()

    def disconnected(self) -> None:
        """Count the end of a connection."""
        self._counts.open_connections -= 1
        self._announce()

    def received(self) -> None:
        """Count a request."""
        counts = self._counts
        counts.received += 1
        counts.live += 1
        counts.peak = max(counts.peak, counts.live)
        self._announce()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Count an answer that is on HOLD while this is open."""
        self._counts.held += 1
        self._announce()
        try:
            yield
        finally:
            self._counts.held -= 1
            self._announce()

    def ended(self, how: str) -> None:
        """Count the end of a request: completed, aborted or cut."""
        self._counts.live -= 1
        setattr(self._counts, how, getattr(self._counts, how) + 1)
        self._announce()

    def _announce(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_until(self, holds: Callable[[Counts], bool], patience: float) -> None:
        """Wait until the counts satisfy `holds`; AssertionError after `patience` s."""
        try:
            async with asyncio.timeout(patience):
                while not holds(self._counts):
                    await self._changed.wait()
        except TimeoutError as error:
            raise AssertionError(f"not reached in {patience:g} s: {self._counts}") from error
