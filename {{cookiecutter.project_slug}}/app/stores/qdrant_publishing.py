"""Putting a document's new passages in place of the old ones, and removing what is gone.

A version is announced in the record, written, and published in one change of the record, which
fails if the document was overtaken meanwhile; then what it replaced is removed.

Needs `protocol`, `qdrant_contents`, `qdrant_documents`, `qdrant_passages`, `qdrant_records` and
`qdrant_setup` beside it, and qdrant-client.
"""

from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from qdrant_client import models

from . import qdrant_documents as documents
from .protocol import Passage, StoreError
from .qdrant_contents import Contents
from .qdrant_passages import Passages
from .qdrant_records import Record, Records
from .qdrant_setup import Setup

NEEDED = ["space", "state", "drops", "stamp"]
"""What of a record tells what is to be removed."""


class Publisher:
    """Publishes and tidies up in the collections of one store."""

    def __init__(
        self, records: Records, contents: Contents, passages: Passages, setup: Setup
    ) -> None:
        self._records = records
        self._contents = contents
        self._passages = passages
        self._setup = setup

    async def replace(
        self, point: str, revision: str, passages: Sequence[Passage], title: str
    ) -> bool:
        """Write a version and publish it; False if that was overtaken."""
        space, version = await self._setup.space_for(passages), uuid4().hex
        record = await self._records.edit(point, documents.drafted(revision, version, space))
        if record is None:
            return False
        if space is not None:
            title = record["title"] or title
            await self._passages.write(space, version, record, title, passages)
        change = documents.published(revision, version, space, len(passages), title)
        published = await self._records.edit(point, change)
        if published is None and space is not None:
            await self._passages.remove(space, [version])
        await self.tidy(point, published)
        return published is not None

    async def tidy(self, point: str, record: Record | None) -> None:
        """Remove what the record says is gone; what fails here is left to a later `tidy_all`."""
        if record is None or not record["drops"]:
            return
        with suppress(StoreError):
            if record["space"]:
                await self._passages.remove(record["space"], record["drops"])
            await self._contents.remove(record["drops"])
            if record["state"] == documents.DELETED:
                await self._records.remove(point, record)
            else:
                await self._records.edit(point, documents.tidied(record["drops"]))

    async def tidy_all(self) -> None:
        """Remove what processes that died have left."""
        nothing = models.IsEmptyCondition(is_empty=models.PayloadField(key="drops"))
        records = await self._records.all(models.Filter(must_not=[nothing]), NEEDED)
        for point, record in records.items():
            await self.tidy(point, record)
