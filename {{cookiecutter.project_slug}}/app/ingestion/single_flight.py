"""One call for all who ask the same at the same time.

    async with SingleFlight[str, str]() as flights:
        page = await flights.run(url, lambda: reader.markdown(url))

Guarantees:
- while a call is under way, whoever asks under the same key waits for it and gets its outcome;
- a waiter that is cancelled leaves at once and stops nobody else; when the last one leaves, the
  call is cancelled at once, and whoever asks next starts a new one;
- an error goes to every waiter, to each as an object of its own, as raising one object in several
  tasks mixes up their tracebacks. Nothing is kept: who asks after the end asks anew;
- calls run in a TaskGroup of this object, so that none outlives it. Their waiters are told so.

Needs: `protocol.py` beside it, for the error of those who wait for a call that is stopped.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, TypeVar

from .protocol import VendorUnavailableError

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


@dataclass(eq=False, slots=True)
class _Flight(Generic[Answer]):
    waiters: int = 0
    task: "asyncio.Task[Answer | _Failure] | None" = None


class SingleFlight(Generic[Key, Answer]):
    """Calls under way, by key; open as long as there may be some."""

    def __init__(self) -> None:
        self._tasks = asyncio.TaskGroup()
        self._flights: dict[Key, _Flight[Answer]] = {}

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for flight in self._flights.values():
            if flight.task is not None:
                flight.task.cancel()
        # What ended the block is raised by it; the group would wrap it.
        await self._tasks.__aexit__(None, None, None)

    async def run(self, key: Key, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return what the call under this key does, or raise its error; begin it if there is none.

        VendorUnavailableError if it was stopped from elsewhere.
        """
        flight = self._flights.get(key) or self._begin(key, call)
        assert flight.task is not None  # noqa: S101 -- `_begin` has set it
        flight.waiters += 1
        try:
            await asyncio.wait((flight.task,))
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
        return _unless_failed(flight.task)

    def _begin(self, key: Key, call: Callable[[], Awaitable[Answer]]) -> _Flight[Answer]:
        # In its place first: under an eager task factory the task may have ended when it is made.
        flight = self._flights[key] = _Flight()
        flight.task = self._tasks.create_task(self._outcome(key, flight, call))
        return flight

    async def _outcome(
        self, key: Key, flight: _Flight[Answer], call: Callable[[], Awaitable[Answer]]
    ) -> Answer | _Failure:
        """Make the call; a failure is returned, as raising it would end the group and all in it."""
        try:
            return await call()
        except Exception as error:  # noqa: BLE001 -- it is raised where somebody waits for it
            return _Failure(error)
        finally:
            self._forget(key, flight)

    def _forget(self, key: Key, flight: _Flight[Answer]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def _unless_failed(task: "asyncio.Task[Answer | _Failure]") -> Answer:
    if task.cancelled():
        raise VendorUnavailableError("the call that this one waited for was stopped")
    outcome = task.result()
    if isinstance(outcome, _Failure):
        raise _own(outcome.error)
    return outcome


def _own(error: Exception) -> Exception:
    """Copy an error, as if the call had raised it here; one that cannot be copied is shared."""
    try:
        own = copy.copy(error)
    except Exception:  # noqa: BLE001 -- made by a class with other ideas of its arguments
        return error
    own.__cause__, own.__context__ = error.__cause__, error.__context__
    own.__suppress_context__ = error.__suppress_context__
    return own.with_traceback(error.__traceback__)
