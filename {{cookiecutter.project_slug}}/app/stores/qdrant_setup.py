"""The collections of a Qdrant store, and which embedding model filled them.

Three names begin as the store's does: `-documents` with the records and the label, `-contents`,
and one `-passages-…` for each model and dimension, as Qdrant fixes that of a collection. So vectors
of two models never meet, whoever relabels the store meanwhile.

Needs `protocol`, `qdrant_records` and `qdrant_requests` beside it, and qdrant-client.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from qdrant_client import models

from .protocol import EmbeddingMismatchError, Passage, StoreError
from .qdrant_records import Record, Records, having
from .qdrant_requests import Requests

LAYOUT = 1
"""Of the records, kept in the label."""
LABEL = str(uuid5(NAMESPACE_URL, "label"))
"""The id of the label's point, which no document's can be."""

KEYWORD, INTEGER = models.PayloadSchemaType.KEYWORD, models.PayloadSchemaType.INTEGER
DOCUMENT_INDEXES = {
    "stamp": KEYWORD,
    "state": KEYWORD,
    "drops": KEYWORD,
    "space": KEYWORD,
    "passages": INTEGER,
}


@dataclass(frozen=True, slots=True)
class Label:
    """The model whose vectors the store holds, their dimension and where they are, if any."""

    model: str
    dimension: int | None
    space: str | None


class Setup:
    """Makes the collections, and holds what goes into them to the store's label."""

    def __init__(self, ask: Requests, records: Records, *, name: str, model: str) -> None:
        self._ask = ask
        self._records = records
        self._name = name
        self._model = model

    async def run(self) -> None:
        """Make what is not there yet, and label a store without passages with the model."""
        if not await self._exists(f"{self._name}-documents") or not await self._labelled():
            await self._collection(f"{self._name}-documents", {}, DOCUMENT_INDEXES)
            await self._collection(f"{self._name}-contents", {}, {"content": KEYWORD})
            await self._records.edit(LABEL, self._first_label)
        label = await self.label()
        if label.model != self._model:
            self._check_model(label, filled=await self.count(label) > 0)
            await self._records.edit(LABEL, self._relabelled)

    async def label(self) -> Label:
        """Read the label."""
        record = (await self._records.read(LABEL)).get(LABEL)
        if record is None:
            raise StoreError(f"The collection {self._name}-documents has lost its label")
        if record["layout"] != LAYOUT:
            raise StoreError(
                f"The store's records are of layout {record['layout']}, this program knows {LAYOUT}"
            )
        model, dimension = record["model"], record["dimension"]
        return Label(model, dimension, self._space(model, dimension) if dimension else None)

    async def count(self, label: Label) -> int:
        """Count the passages that can be found."""
        if label.space is None:
            return 0
        where = models.Filter(must=[having("space", [label.space])])
        return await self._records.total("passages", where)

    async def space_of(self, dimension: int) -> str | None:
        """Return where a search with such a vector finds something; None if nothing is there."""
        label = await self.label()
        if label.model == self._model and label.dimension == dimension:
            return label.space
        if await self.count(label):
            self._check(label, dimension)
        return None

    async def space_for(self, passages: Sequence[Passage]) -> str | None:
        """Hold the passages to the store's model and dimension, or the store to theirs."""
        dimensions = {len(passage.vector) for passage in passages}
        if len(dimensions) > 1:
            raise EmbeddingMismatchError(
                f"The vectors of one document have different dimensions: {sorted(dimensions)}"
            )
        label = await self.label()
        self._check_model(label, filled=True)
        if not dimensions:
            return None
        (dimension,) = dimensions
        if label.dimension == dimension:
            return label.space
        if await self.count(label):
            self._check(label, dimension)
        return await self._fix(dimension)

    async def _fix(self, dimension: int) -> str:
        space = self._space(self._model, dimension)
        vectors = models.VectorParams(size=dimension, distance=models.Distance.DOT)
        await self._collection(space, vectors, {"version": KEYWORD})

        def fixed(old: Record | None) -> Record | None:
            ours = old is not None and old["model"] == self._model
            return old | {"dimension": dimension} if old and ours else None

        if await self._records.edit(LABEL, fixed) is None:
            self._check_model(await self.label(), filled=True)
        return space

    async def _labelled(self) -> bool:
        return bool(await self._records.read(LABEL, fields=["layout"]))

    def _first_label(self, old: Record | None) -> Record | None:
        new = {"layout": LAYOUT, "model": self._model, "dimension": None}
        return new if old is None else None

    def _relabelled(self, old: Record | None) -> Record | None:
        return old and old | {"model": self._model, "dimension": None}

    def _check(self, label: Label, dimension: int) -> None:
        self._check_model(label, filled=True)
        raise EmbeddingMismatchError(
            f"A vector of {self._model!r} has {dimension} dimensions, "
            f"but those in the store have {label.dimension}"
        )

    def _check_model(self, label: Label, *, filled: bool) -> None:
        if filled and label.model != self._model:
            raise EmbeddingMismatchError(
                f"The store was filled by the embedding model {label.model!r}, which compares with "
                f"nothing of {self._model!r}: go back to that model, or use an empty store"
            )

    def _space(self, model: str, dimension: int) -> str:
        digest = hashlib.sha256(model.encode()).hexdigest()[:16]
        return f"{self._name}-passages-{digest}-{dimension}"

    async def _exists(self, collection: str) -> bool:
        return await self._ask(lambda client: client.collection_exists(collection))

    async def _collection(
        self,
        collection: str,
        vectors: models.VectorParams | Mapping[str, models.VectorParams],
        indexes: Mapping[str, models.PayloadSchemaType],
    ) -> None:
        """Make a collection unless it is there, or somebody else makes it just now."""
        if not await self._exists(collection):
            try:
                await self._ask(
                    lambda client: client.create_collection(collection, vectors_config=vectors)
                )
            except StoreError:
                if not await self._exists(collection):
                    raise
        for key, kind in indexes.items():
            await self._ask(
                lambda client: client.create_payload_index(collection, key, kind)  # noqa: B023
            )
