"""An asyncio event loop whose clock jumps to the next timer instead of waiting for it.

Under it `await asyncio.sleep(30)` takes no time, every run is the same run, and a test can go
through the loop one iteration at a time. A wait that nothing will ever end raises DeadlockError
rather than hang.
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
            raise DeadlockError("all tasks wait, and no timer is set")
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

    def step(self) -> None:
        """Run what is ready now, once; what that makes ready waits for the next step."""
        self.call_soon(self.stop)
        self.run_forever()

    def advance(self, seconds: float) -> None:
        """Let so much time pass, and run all that becomes due on the way, in order."""
        self.call_later(seconds, self.stop)
        self.run_forever()
