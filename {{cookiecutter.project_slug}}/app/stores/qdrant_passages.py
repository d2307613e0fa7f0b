"""Passages in Qdrant collections, found all or none of a version, without a transaction.

A version's points are written before its document's record names it, and removed after the record
names another; no version comes back. So a hit counts if the record named its version before the
query began and still does after it: then all points of that version were there throughout. Any
other hit makes the search ask again, without the versions that turned out not to be current.

Needs `protocol`, `qdrant_records`, `qdrant_requests` and `storable` beside it, and qdrant-client.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import count, islice
from uuid import UUID, uuid5

from qdrant_client import models

from .protocol import Hit, Passage, StoreUnavailableError, Vector
from .qdrant_records import Record, having
from .qdrant_requests import RETRY_AFTER, Requests
from .storable import storable

BATCH = 64
"""Passages in one request: serializing them takes the event loop's time."""
ROUNDS = 20
MAX_KNOWN = 20_000

Current = Callable[[Iterable[str]], Awaitable[dict[str, str | None]]]
"""Returns which version is current of each document, given their ids."""


class Known:
    """The latest versions that were seen to be current, and when that was."""

    def __init__(self) -> None:
        self._clock = count()
        self._seen: dict[str, int] = {}

    def now(self) -> int:
        """Return a time that is later than all others."""
        return next(self._clock)

    def add(self, version: str) -> None:
        """Note that a version is current."""
        if version not in self._seen:
            self._seen[version] = self.now()
            if len(self._seen) > MAX_KNOWN:
                del self._seen[next(iter(self._seen))]

    def all_before(self, versions: Iterable[str], moment: int) -> bool:
        """Whether each of the versions was current at some time before that moment."""
        return all(self._seen.get(version, moment) < moment for version in versions)


class Passages:
    """The passages of one store, in collections that are named by `space`."""

    def __init__(self, ask: Requests, current: Current) -> None:
        self._ask = ask
        self._current = current
        self._known = Known()

    async def write(
        self, space: str, version: str, record: Record, title: str, passages: Sequence[Passage]
    ) -> None:
        """Write a version's passages, which nobody finds yet."""
        points = (
            models.PointStruct(
                id=str(uuid5(UUID(version), str(position))),
                vector=passage.vector.tolist(),
                payload={
                    "version": version,
                    "document": record["id"],
                    "position": position,
                    "text": storable(passage.text),
                    "title": title,
                    "url": record["url"],
                },
            )
            for position, passage in enumerate(passages)
        )
        while batch := list(islice(points, BATCH)):
            await self._ask(lambda client: client.upsert(space, batch))

    async def remove(self, space: str, versions: Sequence[str]) -> None:
        """Remove versions, as far as there is anything of them."""
        where = models.Filter(must=[having("version", versions)])
        await self._ask(lambda client: client.delete(space, where))

    async def search(self, space: str, vector: Vector, limit: int) -> list[Hit]:
        """Return the nearest passages, in one state of each document."""
        seen: dict[str, str] = {}
        dead: list[str] = []
        for _ in range(ROUNDS):
            moment = self._known.now()
            hits = await self._query(space, vector, limit, dead)
            seen |= {version: hit.document_id for version, hit in hits}
            current = await self._current(set(seen.values())) if seen else {}
            dead = [version for version, id_ in seen.items() if current.get(id_) != version]
            versions = {version for version, _ in hits}
            for version in versions.difference(dead):
                self._known.add(version)
            if versions.isdisjoint(dead) and self._known.all_before(versions, moment):
                return [hit for _, hit in hits]
        raise StoreUnavailableError(
            f"Documents were replaced faster than a search could follow, {ROUNDS} times in a row",
            retry_after=RETRY_AFTER,
        )

    async def _query(
        self, space: str, vector: Vector, limit: int, without: Sequence[str]
    ) -> list[tuple[str, Hit]]:
        where = models.Filter(must_not=[having("version", without)]) if without else None
        found = await self._ask(
            lambda client: client.query_points(
                space, query=vector.tolist(), limit=limit, query_filter=where
            )
        )
        return [_hit(point) for point in found.points]


def _hit(point: models.ScoredPoint) -> tuple[str, Hit]:
    found = point.payload or {}
    return found["version"], Hit(
        found["document"],
        found["position"],
        found["text"],
        found["title"],
        found["url"],
        point.score,
    )
