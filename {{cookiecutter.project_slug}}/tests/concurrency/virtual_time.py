"""An asyncio event loop whose clock jumps to the next timer instead of waiting for it.

Every run is the same run, and a test can go through the loop one iteration at a time.
"""

import asyncio
import selectors


class DeadlockError(Exception):
    """Every task waits and no timer is set: on a real clock this would hang for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """The one place where an event loop lets time pass: here it passes at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError
        self.now += timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Runs as fast as its callbacks do; `time()` starts at 0."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._clock.now

    def advance(self, seconds: float | None = None) -> None:
        """Let so much time pass, and run all that becomes due; or run what is ready now, once."""
        if seconds is None:
            self.call_soon(self.stop)
        else:
            self.call_later(seconds, self.stop)
        self.run_forever()
