"""What waiting documents are made of, kept in a Qdrant collection of its own.

In chunks of CHUNK bytes, as base64: a server refuses requests of more than 32 MB, and a large one
would keep the event loop busy.

Needs `qdrant_records` and `qdrant_requests` beside it, and qdrant-client.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from uuid import UUID, uuid4, uuid5

from qdrant_client import models

from .qdrant_records import having
from .qdrant_requests import Requests

CHUNK = 1_000_000


class Contents:
    """The contents in one collection; each is written once, and never changed."""

    def __init__(self, ask: Requests, collection: str) -> None:
        self._ask = ask
        self._collection = collection

    async def write(self, content: bytes) -> tuple[str, int]:
        """Keep a content; return its name and how many chunks it has."""
        name = uuid4().hex
        starts = range(0, len(content), CHUNK)
        for number, start in enumerate(starts):
            data = b64encode(content[start : start + CHUNK]).decode()
            point = models.PointStruct(
                id=_point(name, number), vector={}, payload={"content": name, "data": data}
            )
            await self._ask(lambda client: client.upsert(self._collection, [point]))  # noqa: B023
        return name, len(starts)

    async def read(self, name: str, chunks: int) -> bytes | None:
        """Return a content; None if it was removed."""
        parts = []
        for number in range(chunks):
            found = await self._ask(
                lambda client: client.retrieve(
                    self._collection,
                    ids=[_point(name, number)],  # noqa: B023
                )
            )
            if not found:
                return None
            parts.append(b64decode((found[0].payload or {})["data"]))
        return b"".join(parts)

    async def remove(self, names: Sequence[str]) -> None:
        """Remove contents, as far as there are any."""
        await self._ask(
            lambda client: client.delete(
                self._collection, models.Filter(must=[having("content", names)])
            )
        )


def _point(name: str, number: int) -> str:
    return str(uuid5(UUID(name), str(number)))
