"""Search all sources at once, and answer from those that respond in time.

    async with Retriever(sources, timeout=3.0, limit=5) as retriever:
        retrieved = await retriever.retrieve("Why is the sky blue?")

Guarantees: `retrieve` takes as long as the slowest source, and at most `timeout` plus GRACE. A
source that fails or is late is reported as Degraded; its exception, whose message may hold
secrets, goes to `on_degraded` alone. A cancellation cancels all searches at once.

Needs: `base.py` and `fuse.py` beside it.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from .base import Degraded, Found, Retrieved, Source
from .fuse import fuse

GRACE = 0.5  # seconds that a cancelled search may hold the request while it cleans up


class Retriever:
    """Searches `sources` for `limit` passages each, within `timeout` seconds.

    Searches run as tasks of the retriever, so that none holds its request by ignoring its
    cancellation; closing waits for such a search.
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
        self._timeout, self._limit = timeout, limit
        self._on_degraded = on_degraded
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.__aexit__(None, None, None)  # it would wrap an error of the block

    async def retrieve(self, question: str) -> Retrieved:
        """Return what the sources found in time, fused, and which sources are missing."""
        found: list[Sequence[Found]] = []
        degraded: list[Degraded] = []
        for source, outcome in zip(self._sources, await self._search(question), strict=True):
            if isinstance(outcome, Exception):
                if self._on_degraded is not None:
                    self._on_degraded(source.name, outcome)
                reason = "timed out" if isinstance(outcome, TimeoutError) else "failed"
                degraded.append(Degraded(source.name, reason))
            else:
                found.append(outcome)
        return Retrieved(tuple(fuse(found)), tuple(degraded))

    async def _search(self, question: str) -> list[Sequence[Found] | Exception]:
        searches = [self._tasks.create_task(self._run(one, question)) for one in self._sources]
        late = set(searches)
        try:
            if searches:
                _, late = await asyncio.wait(searches, timeout=self._timeout)
        finally:
            for search in late:
                search.cancel()
            if late:
                await asyncio.wait(late, timeout=GRACE)
        too_late = TimeoutError(f"no answer within {self._timeout:g} s")
        return [too_late if search in late else _result(search) for search in searches]

    async def _run(self, source: Source, question: str) -> Sequence[Found] | Exception:
        """Search; return an error, because raising it would cancel the other tasks."""
        try:
            return list(await source.search(question, limit=self._limit))[: self._limit]
        except Exception as error:  # noqa: BLE001 -- a source may fail in any way
            return error


def _result(search: asyncio.Task[Sequence[Found] | Exception]) -> Sequence[Found] | Exception:
    if search.cancelled():
        return RuntimeError("the source cancelled its search")
    return search.result()
