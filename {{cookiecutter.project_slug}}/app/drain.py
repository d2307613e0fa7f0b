"""Stopping without cutting streams.

On SIGTERM or SIGINT the service drains: it is not ready any more, refuses new work with a
`Retry-After`, and lets open requests finish within the drain timeout. What is left then ends with
an error event. Only after that the server gets the signal. A further signal ends the present wait;
one within a second of the last is taken for the same stop.

Needs: `app.errors`, and a main thread for the signals.
"""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

from app.errors import ServiceError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_STOP = 1.0
"""Seconds; a worker hears Ctrl-C from the terminal, and again from its parent process."""

LAST_WORDS = 1.0
"""Seconds for sending the error events after the drain timeout."""


class DrainingError(ServiceError):
    """The service is shutting down; another instance, or the next, will answer."""

    type = "draining"


class Drain:
    """Counts the requests inside and knows whether the service is stopping.

    `timeout` is how many seconds open requests may go on after the signal.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._in_flight = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._signal = asyncio.Event()
        self._patience: asyncio.Timeout | None = None
        self._cut_off: set[Callable[[DrainingError], None]] = set()

    @property
    def started(self) -> bool:
        """Whether the service is stopping."""
        return self._signal.is_set()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let one request in for as long as the context is open; DrainingError when stopping."""
        if self.started:
            raise self._refusal()
        self._in_flight += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._empty.set()

    @contextmanager
    def cutting_off(self, end: Callable[[DrainingError], None]) -> Iterator[None]:
        """Call `end` if the drain timeout passes while the context is open."""
        self._cut_off.add(end)
        try:
            yield
        finally:
            self._cut_off.discard(end)

    def _refusal(self) -> DrainingError:
        return DrainingError("the service is shutting down", retry_after=self._timeout)

    @asynccontextmanager
    async def bound(self) -> AsyncIterator[None]:
        """End what is in the context with DrainingError if the drain timeout passes meanwhile."""
        wait = asyncio.timeout(None)
        try:
            async with wait:
                with self.cutting_off(lambda _: wait.reschedule(0)):
                    yield
        except TimeoutError:
            if not wait.expired():
                raise
            raise self._refusal() from None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Drain when a signal comes, for as long as the context is open."""
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(self._run())
            yield
            draining.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        received: list[int] = []

        def on_signal(number: int) -> None:
            received.append(number)
            self._signal.set()
            if self._patience is not None:  # a later signal ends the wait
                self._patience.reschedule(loop.time())

        with _handling(lambda number: loop.call_soon_threadsafe(on_signal, number)):
            await self._signal.wait()
            await self._emptied_within(self._timeout)
            for end in tuple(self._cut_off):
                end(self._refusal())
            await self._emptied_within(LAST_WORDS)
        signal.raise_signal(received[0])

    async def _emptied_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds) as self._patience:
                await self._empty.wait()
        except TimeoutError:
            pass
        finally:
            self._patience = None


@contextmanager
def _handling(react: Callable[[int], object]) -> Iterator[None]:
    """Call `react` with each of SIGNALS, but once for one stop; then restore the handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals: the server's own thread does
        return
    last = float("-inf")

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now > last + SAME_STOP:
            last = now
            react(number)

    previous = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
