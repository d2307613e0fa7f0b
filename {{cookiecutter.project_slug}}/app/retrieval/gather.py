"""Ask all sources at once, and make do with those that answer in time.

Guarantees of `retrieve`:

- It takes as long as the slowest source, never the sum; and no longer than `timeout`, plus GRACE
  for cancelled searches to end. What was found by then is used.
- A source that fails or is late is Degraded, and the others go on. Its reason is a word or two for
  the public: the exception, whose message may hold secrets, goes to `on_degraded` alone.
- A required source that fails or is late raises RequiredSourceError, and a cancellation
  raises CancelledError, as soon as all searches have ended; they are cancelled at once.
- A search that does not end when it is cancelled holds nobody up: see `searches.py`.
- No ExceptionGroup is raised. KeyboardInterrupt and SystemExit in a source pass through.

Needs: `fuse.py`, `searches.py` and `protocol.py` beside it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from .fuse import fuse
from .protocol import Degraded, Found, RequiredSourceError, Retrieved, Source
from .searches import Searches

TIMED_OUT = "timed out"
FAILED = "failed"


class Retriever:
    """Asks `sources`, for `limit` texts each, within `timeout` seconds in all.

    Where two sources found equally good texts the earlier source comes first. `on_degraded` is
    told the name of a source that the answer goes without, and the exception, for logs and metrics.
    Use it as a context manager, open for as long as questions come.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        timeout: float,
        limit: int,
        on_degraded: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._timeout = timeout
        self._limit = limit
        self._on_degraded = on_degraded
        self._searches = Searches()

    async def __aenter__(self) -> Self:
        await self._searches.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._searches.__aexit__(kind, error, traceback)

    async def retrieve(self, question: str) -> Retrieved:
        """Return what the sources found, fused, and which are missing; or RequiredSourceError."""
        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(self._ask(source, question)) for source in self._sources]
        except BaseExceptionGroup as failures:
            failure = failures.exceptions[0]
        else:
            answers = [task.result() for task in asked]
            found = [answer for answer in answers if not isinstance(answer, Degraded)]
            missing = [answer for answer in answers if isinstance(answer, Degraded)]
            return Retrieved(tuple(fuse(found)), tuple(missing))
        try:
            raise failure  # out here, where the group is not its context
        finally:
            del failure  # which refers to this frame

    async def _ask(self, source: Source, question: str) -> Sequence[Found] | Degraded:
        own = self._timeout if source.timeout is None else source.timeout
        within = min(own, self._timeout)
        outcome = await self._searches.run(source, question, limit=self._limit, within=within)
        if not isinstance(outcome, Exception):
            return outcome
        reason = TIMED_OUT if isinstance(outcome, TimeoutError) else FAILED
        if source.required:
            message = f"the required source {source.name!r} {reason} (its deadline is {within:g} s)"
            raise RequiredSourceError(message, retry_after=_retry_after(outcome)) from outcome
        if self._on_degraded is not None:
            self._on_degraded(source.name, outcome)
        return Degraded(source.name, reason)


def _retry_after(error: Exception) -> float | None:
    """Pass on when trying again makes sense, in seconds, if the source's error says so."""
    said = getattr(error, "retry_after", None)
    return said if isinstance(said, int | float) else None
