"""What a store's tests are made of, and how a store is plugged into the contract.

A store is plugged in by a module `on_NAME.py` in this folder that is an `Engine`; it is found by
its name, so taking a store out is deleting its files. The rules are in `test_contract_*.py`.
Tests of one store only can ask for its server and databases too, by
`pytest.mark.parametrize("engine", ["NAME"], indirect=True)`.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from app.stores.protocol import Document, DocumentStore, Hit, Passage, Vector

DIMENSION = 8
MODEL = "model-a"
LONG = 30.0
"""Seconds that are enough on any machine."""


class OpenStore(Protocol):
    """Makes a store on the test's own database; `async with` opens it. May be open many times."""

    def __call__(self, model: str = MODEL) -> DocumentStore:
        """Make a store whose passages that model embeds."""
        ...


class Engine(Protocol):
    """What a module `on_NAME.py` offers."""

    FINDS_BY_WORDS: bool
    """Whether a passage is found by its words alone, however far its vector is."""
    BAD_ADDRESS: str
    """One of its kind at which there can be no database."""

    def server(self, folder: Path) -> AbstractContextManager[Any]:
        """Run what all tests share, once; `contextlib.nullcontext()` if nothing."""
        ...

    def database(self, server: Any, folder: Path) -> AbstractAsyncContextManager[OpenStore]:
        """Provide an empty database to one test, and remove it afterwards."""
        ...

    def address(self, server: Any, folder: Path) -> str:
        """Provide an empty database to one test of the whole service, or skip the test."""
        ...


def vector(*weights: float, dimension: int = DIMENSION) -> Vector:
    """Return a vector of length 1 with these first components, before scaling."""
    row = np.zeros(dimension, np.float32)
    row[: len(weights)] = weights
    return row / np.float32(np.linalg.norm(row))


def axis(number: int, *, dimension: int = DIMENSION) -> Vector:
    """Return a vector that is orthogonal to every other axis."""
    return vector(*[0] * number, 1, dimension=dimension)


def passages(*texts: str, at: Vector | None = None) -> list[Passage]:
    """Return passages with these texts that all have the same vector."""
    return [Passage(text, axis(0) if at is None else at) for text in texts]


async def submit(store: DocumentStore, document_id: str = "d", revision: str = "1") -> None:
    """Queue a document about whose title and content nobody asks."""
    await store.submit(Document(document_id, revision, title=document_id), b"content")


async def store_passages(
    store: DocumentStore, document_id: str, parts: Sequence[Passage], revision: str = "1"
) -> None:
    """Submit a document and store it as these passages."""
    await submit(store, document_id, revision)
    assert await store.upsert(document_id, revision, parts)


async def everything(store: DocumentStore) -> list[Hit]:
    """Return what a search finds that leaves nothing out."""
    return await store.search("anything", axis(0), limit=100)


async def found(store: DocumentStore) -> set[str]:
    """Return the texts of all passages that can be found."""
    return {hit.text for hit in await everything(store)}


async def state(store: DocumentStore, document_id: str = "d") -> str | None:
    """Return a document's state; None if there is no such document."""
    document = await store.document(document_id)
    return document.state if document else None
