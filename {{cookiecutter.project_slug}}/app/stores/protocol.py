"""What a store of documents and their passages does, whichever database is below.

A document is submitted with its content, worked on, and then stored as passages with their
vectors. Its `revision` names one version of its content: what arrives for a revision that is no
longer the document's is dropped, so work that was overtaken, repeated or deleted meanwhile harms
nothing.

Needs: NumPy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
"""One row; of length 1, so that the dot product of two is their cosine similarity."""

State = Literal["queued", "processing", "ready", "failed"]


class StoreError(Exception):
    """The store could not do what it was asked; `retry_after` is in seconds, or None."""

    type = "store_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreUnavailableError(StoreError):
    """The database cannot be reached, or did not answer in time."""

    type = "store_unavailable"


class EmbeddingMismatchError(StoreError):
    """The store holds vectors of another embedding model, which compare with nothing new."""

    type = "embedding_mismatch"


@dataclass(frozen=True, slots=True)
class Document:
    """One document and how far it has got.

    `passages` counts those that a search can find now; `attempts` how often work on this
    revision was begun; `error` says why it failed.
    """

    id: str
    revision: str
    title: str
    url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    state: State = "queued"
    passages: int = 0
    attempts: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that is searched for and cited as one."""

    text: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found; the higher the score, the better, within one search only."""

    document_id: str
    position: int
    text: str
    title: str
    url: str | None
    score: float


class VectorStore(Protocol):
    """Passages by document, searched by meaning and, where the store can, by words.

    Any method may raise StoreUnavailableError.
    """

    async def upsert(
        self, document_id: str, revision: str, passages: Sequence[Passage], *, title: str = ""
    ) -> bool:
        """Replace all passages of the document by these and make it ready.

        `title` is for a document that has none yet: what was found while reading it.
        All at once: a search sees those before or these. False, and nothing is changed, if
        `revision` is not (or no longer) the document's. The first upsert fixes the
        dimension of the store's vectors; EmbeddingMismatchError for another.
        """
        ...

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:
        """Find the passages nearest to a question, given in words and as a vector, best first."""
        ...

    async def delete(self, document_id: str) -> bool:
        """Remove the document and its passages; False if there was none."""
        ...

    async def count(self) -> int:
        """Count the passages that can be found."""
        ...


class DocumentStore(VectorStore, Protocol):
    """A vector store that also keeps what is still to be done.

    Opened by `async with`, which sets the database up and raises EmbeddingMismatchError if it was
    filled by another embedding model than this process has.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    async def submit(self, document: Document, content: bytes) -> None:
        """Queue a document with what it will be made of, in place of an earlier revision.

        Passages of the earlier revision can be found until `upsert` replaces them.
        """
        ...

    async def document(self, document_id: str) -> Document | None:
        """Return a document without its content; None if there is no such document."""
        ...

    async def begin(self, document_id: str) -> tuple[Document, bytes] | None:
        """Return a document to work on, with its content, and count the attempt.

        None if there is nothing to do: no such document, or it is ready or failed. One that is
        processing is returned again: whoever worked on it may be dead.
        """
        ...

    async def fail(self, document_id: str, revision: str, error: str) -> None:
        """Give up on this revision; passages of an earlier one remain. Drops the content."""
        ...

    async def unfinished(self) -> list[str]:
        """List the documents that are queued or processing, the oldest first."""
        ...
