"""How fast a queue moves, and so what a newcomer may expect of it.

Needs the standard library only.

A call that cannot make its deadline had better be told on arrival: it would take a place in the
queue and its client's time for nothing. But a wrong guess turns away a call that could have been
served, so the word is only given on evidence: over two turns of every slot or more, since the
queue was last empty (an idle spell says nothing of its speed), and with a margin of two. Older
turns count less, so that a service that recovers is believed within as many turns.
"""

MARGIN = 2.0
"""The queue may turn out this much faster than it was, before a call is wrongly turned away."""


class Pace:
    """Seconds from one turn to the next, averaged over about the last two to four of each slot."""

    def __init__(self) -> None:
        self.restart(0.0)

    def restart(self, now: float) -> None:
        """Begin to measure: somebody waits."""
        self._since, self._turns = now, 0.0

    def count_turn(self, now: float, slots: int) -> None:
        """Note that a waiter got one of so many slots."""
        self._turns += 1
        if self._turns >= 2 * _enough(slots):
            self._turns /= 2
            self._since += (now - self._since) / 2

    def retry_after(self, places: int, now: float, *, at_most: float) -> float:
        """Estimate the seconds until so many waiters have had their turns or given up; 1 or more.

        By `at_most` all have given up; as long as nothing is known of the pace, that is the answer.
        """
        expected = places * (now - self._since) / self._turns if self._turns else at_most
        return max(1.0, min(expected, at_most))

    def sure_wait(self, places: int, now: float, slots: int) -> float:
        """Return the seconds that so many turns take at the very least; 0 without evidence."""
        if self._turns < _enough(slots):
            return 0.0
        return places * (now - self._since) / self._turns / MARGIN


def _enough(slots: int) -> int:
    """Two turns of each slot, as calls may start together and then end together."""
    return max(10, 2 * slots)
