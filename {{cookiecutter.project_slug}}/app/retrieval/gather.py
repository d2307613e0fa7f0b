"""Search all sources at once, and answer from those that respond in time.

    retriever = Retriever({web: 20, documents: 4}, timeout=3.0, queue_timeout=30.0, limit=5)
    retrieved = await retriever.retrieve("Why is the sky blue?")

Guarantees: `retrieve` takes as long as the slowest source. A search has `timeout` seconds, which
begin when one of its source's slots is free; it waits up to `queue_timeout` seconds for that. A
source that fails or is late is reported as Degraded; its exception, whose message may hold
secrets, goes to `on_degraded` alone. A cancellation cancels all searches.

Needs: `base.py` and `fuse.py` beside it; sources that end when they are cancelled.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from .base import Degraded, Found, Retrieved, Source
from .fuse import fuse


class Retriever:
    """Searches for `limit` passages in each source; `sources` maps it to its slots."""

    def __init__(
        self,
        sources: Mapping[Source, int],
        *,
        timeout: float,
        queue_timeout: float,
        limit: int,
        on_degraded: Callable[[Degraded, Exception], None] = lambda *_: None,
    ) -> None:
        self._slots = {source: asyncio.Semaphore(slots) for source, slots in sources.items()}
        self._timeout, self._queue_timeout, self._limit = timeout, queue_timeout, limit
        self._on_degraded = on_degraded

    async def retrieve(self, question: str) -> Retrieved:
        """Return what the sources found in time, fused, and which sources are missing."""
        async with asyncio.TaskGroup() as group:
            searches = [group.create_task(self._search(one, question)) for one in self._slots]
        outcomes = [search.result() for search in searches]
        found = [outcome for outcome in outcomes if not isinstance(outcome, Degraded)]
        degraded = [outcome for outcome in outcomes if isinstance(outcome, Degraded)]
        return Retrieved(fuse(found), degraded)

    async def _search(self, source: Source, question: str) -> Sequence[Found] | Degraded:
        """Search; report an error, because raising it would cancel the other searches."""
        late = "overloaded"
        try:
            async with asyncio.timeout(self._queue_timeout) as deadline, self._slots[source]:
                late = "timed out"
                deadline.reschedule(asyncio.get_running_loop().time() + self._timeout)
                return list(await source.search(question, limit=self._limit))[: self._limit]
        except Exception as error:  # noqa: BLE001 -- a source may fail in any way
            reason = late if isinstance(error, TimeoutError) else "failed"
            degraded = Degraded(source.name, reason)
            self._on_degraded(degraded, error)
            return degraded
