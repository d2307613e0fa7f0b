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
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

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
        self._stopped_by = 0
        self._last_signal = float("-inf")
        self._wake = asyncio.Event()
        self._cut_off: set[Callable[[DrainingError], None]] = set()

    @property
    def started(self) -> bool:
        """Whether the service is stopping."""
        return bool(self._stopped_by)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let one request in for as long as the context is open; DrainingError when stopping."""
        if self.started:
            raise self._refusal()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._wake.set()

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
        with ExitStack() as handlers:
            if threading.current_thread() is threading.main_thread():  # no other may handle signals
                for number in SIGNALS:
                    handler = signal.signal(
                        number, lambda n, _: loop.call_soon_threadsafe(self._on_signal, n)
                    )
                    handlers.callback(signal.signal, number, handler)
            while not self.started:
                self._wake.clear()
                await self._wake.wait()
            await self._wait_until_empty(self._timeout)
            for end in tuple(self._cut_off):
                end(self._refusal())
            await self._wait_until_empty(LAST_WORDS)
        signal.raise_signal(self._stopped_by)

    def _on_signal(self, number: int) -> None:
        now = asyncio.get_running_loop().time()
        if now > self._last_signal + SAME_STOP:
            self._last_signal = now
            self._stopped_by = number
            self._wake.set()

    async def _wait_until_empty(self, seconds: float) -> None:
        """Wait until no request is open, at most until the time is up or the next signal."""
        self._wake.clear()
        if self._in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
