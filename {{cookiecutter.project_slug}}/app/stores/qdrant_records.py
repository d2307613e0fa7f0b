"""Records in a Qdrant collection: points without vectors, changed as if each had a lock.

Qdrant has no transactions, but applies one update after the other. So a change is read, made here
and written under the condition that the record is still the one that was read; else all over
again. Whether the condition held is not answered; but each record carries the stamps of its latest
writers, so whoever then finds his own there has succeeded. That errs only if TRAIL others change
the same record between these two requests: the change is then made twice.

Needs `protocol` and `qdrant_requests` beside it, and qdrant-client.
"""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from qdrant_client import AsyncQdrantClient, models

from .protocol import StoreUnavailableError
from .qdrant_requests import RETRY_AFTER, Requests

Record = dict[str, Any]
Change = Callable[[Record | None], Record | None]
"""Returns a record's new content, given the old (None: there is none); None to leave it."""

TRIES = 100
TRAIL = 32
PAGE = 1000
MAX_VALUES = 100_000
"""Different numbers of passages that documents have."""
STRONG = models.WriteOrdering.STRONG
"""In a cluster: through one node, in one order."""


def having(key: str, values: Iterable[str]) -> models.FieldCondition:
    """Hold for points whose `key` is one of the values, or has one among its own."""
    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))


class Records:
    """The records of one collection, which others change at the same time."""

    def __init__(self, ask: Requests, collection: str) -> None:
        self._ask = ask
        self._collection = collection

    async def read(self, *points: str, fields: list[str] | None = None) -> dict[str, Record]:
        """Return those of these records that there are."""
        found = await self._ask(
            lambda client: client.retrieve(
                self._collection, ids=list(points), with_payload=fields or True
            )
        )
        return {str(record.id): record.payload or {} for record in found}

    async def edit(self, point: str, change: Change) -> Record | None:
        """Change a record, or make it, and return the new one; None if it was left."""
        for _ in range(TRIES):
            old = (await self.read(point)).get(point)
            new = change(old)
            if new is None:
                return None
            stamp = uuid4().hex
            trail = [stamp, *(old["trail"] if old else [])][:TRAIL]
            new |= {"stamp": stamp, "trail": trail}
            await self._ask(lambda client: self._write(client, point, old, new))  # noqa: B023
            now = (await self.read(point, fields=["trail"])).get(point)
            if now and stamp in now["trail"]:
                return new
        raise StoreUnavailableError(
            f"A record was changed by others {TRIES} times in a row", retry_after=RETRY_AFTER
        )

    async def remove(self, point: str, record: Record) -> None:
        """Remove a record, if it is still this one."""
        await self._ask(
            lambda client: client.delete(self._collection, _same(point, record), ordering=STRONG)
        )

    async def all(self, where: models.Filter, fields: list[str]) -> dict[str, Record]:
        """Return these fields of all records of which the condition holds."""
        found: dict[str, Record] = {}
        offset = None
        while True:
            page, offset = await self._ask(
                lambda client: client.scroll(
                    self._collection,
                    scroll_filter=where,
                    limit=PAGE,
                    offset=offset,  # noqa: B023
                    with_payload=fields,
                )
            )
            found |= {str(record.id): record.payload or {} for record in page}
            if offset is None:
                return found

    async def total(self, key: str, where: models.Filter) -> int:
        """Return the sum of the numbers that are `key` of the records."""
        counted = await self._ask(
            lambda client: client.facet(
                self._collection, key=key, facet_filter=where, limit=MAX_VALUES, exact=True
            )
        )
        return sum(int(hit.value) * hit.count for hit in counted.hits)

    async def _write(
        self, client: AsyncQdrantClient, point: str, old: Record | None, new: Record
    ) -> None:
        if old is None:
            await client.upsert(
                self._collection,
                [models.PointStruct(id=point, vector={}, payload=new)],
                update_mode=models.UpdateMode.INSERT_ONLY,
                ordering=STRONG,
            )
        else:
            await client.overwrite_payload(
                self._collection, new, points=_same(point, old), ordering=STRONG
            )


def _same(point: str, record: Record) -> models.Filter:
    """Hold for the record only as long as nobody else changes it."""
    return models.Filter(
        must=[models.HasIdCondition(has_id=[point]), having("stamp", [record["stamp"]])]
    )
