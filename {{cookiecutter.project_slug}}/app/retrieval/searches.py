"""One search, over for its caller in time, whatever the source does with its cancellation.

A task cannot be killed. It is asked to end, and may first clean up (psycopg has the server stop the
query, for up to ten seconds) or not listen at all, and a TaskGroup waits for it all the same. So
a search runs in a group that outlives the request, and the request waits for it under a deadline:

- A search is over for its caller when it has ended, at its deadline, or with the caller's own
  cancellation. In the latter two cases it is cancelled at once, and waited for so that
  it has ended when the caller goes on; but for GRACE seconds at most.
- What has not ended by then goes on without its caller and is waited for when the
  group closes, after one more cancellation. A source that has MOST_LEFT such searches is not
  asked until one of them has ended: what it holds stays bounded.

Needs: `protocol.py` beside it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from .protocol import Found, Source

GRACE = 0.5
"""Seconds that a cancelled search may take to end before its caller goes on without it."""
MOST_LEFT = 100
"""Searches of one source that may have been left behind before it is not asked any more."""


class Searches:
    """The searches of all requests; open as long as there may be some."""

    def __init__(self) -> None:
        self._tasks = asyncio.TaskGroup()
        self._ending: defaultdict[str, set[asyncio.Task[object]]] = defaultdict(set)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for ending in self._ending.values():
            for search in ending:
                search.cancel()
        # The group is to see a cancellation, which may be its own, but not to wrap other errors.
        if not isinstance(error, asyncio.CancelledError):
            kind = error = traceback = None
        await self._tasks.__aexit__(kind, error, traceback)

    async def run(
        self, source: Source, question: str, *, limit: int, within: float
    ) -> Sequence[Found] | Exception:
        """Return what the source found, `limit` texts at most, or why it did not.

        That is a TimeoutError if it has not ended `within` so many seconds.
        """
        if len(self._ending[source.name]) >= MOST_LEFT:
            return RuntimeError(f"{MOST_LEFT} searches of {source.name!r} do not end")
        search = self._tasks.create_task(_outcome(source, question, limit))
        try:
            await asyncio.wait({search}, timeout=within)
            if search.done():
                return _unless_cancelled(search)
            await self._end(search, source.name)
        except asyncio.CancelledError:
            await self._end(search, source.name)
            raise
        return TimeoutError(f"no answer within {within:g} s")

    async def _end(self, search: asyncio.Task[object], of: str) -> None:
        """Cancel a search, once, and wait until it has ended or the grace is over."""
        if search.done():
            return
        if search not in self._ending[of]:
            self._ending[of].add(search)
            search.add_done_callback(self._ending[of].discard)
            search.cancel()
        await asyncio.wait({search}, timeout=GRACE)


async def _outcome(source: Source, question: str, limit: int) -> Sequence[Found] | Exception:
    """Search; a failure is returned, as raising it would end the group and all that is in it."""
    try:
        return list(await source.search(question, limit=limit))[:limit]
    except Exception as error:  # noqa: BLE001 -- a source may fail in any way
        return error


def _unless_cancelled(
    search: asyncio.Task[Sequence[Found] | Exception],
) -> Sequence[Found] | Exception:
    """Tell a search that was cancelled within the source from a request that was cancelled."""
    if search.cancelled():
        return RuntimeError("the search was cancelled, but not by this service")
    return search.result()
