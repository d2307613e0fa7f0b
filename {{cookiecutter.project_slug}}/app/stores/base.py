"""What a store of passages does, whichever database is below it.

Needs `app.errors`, NumPy and `ranking` beside it.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from app.errors import ServiceError

from .ranking import storable

Vector = NDArray[np.float32]
"""One row of length 1: the dot product of two is their cosine similarity."""


class StoreUnavailableError(ServiceError):
    """The database cannot be reached, refused the request, or did not answer in time."""

    type = "store_unavailable"
    retry_after = 1.0
    public_message = "The document store is unavailable"

    @classmethod
    def from_error(cls, database: str, error: BaseException) -> Self:
        """Name the database and, in one line, the reason."""
        reason = " ".join(str(error).split()) or type(error).__name__
        return cls(f"{database}: {reason[:300]}")


@dataclass(frozen=True, slots=True)
class Source:
    """The document that passages are cited by; its `id` is ASCII."""

    id: str
    title: str
    url: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", storable(self.title))
        object.__setattr__(self, "url", self.url and storable(self.url))


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that is found and cited as one."""

    text: str
    vector: Vector

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", storable(self.text))


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found."""

    document_id: str
    text: str
    title: str
    url: str | None


class PassageStore(AbstractAsyncContextManager["PassageStore"], Protocol):
    """Passages by document. Any method may raise StoreUnavailableError."""

    async def replace(self, source: Source, passages: Sequence[Passage]) -> None:
        """Store these passages in place of those that the document has; none removes them."""

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:
        """Find passages by meaning and by words, best first."""

    async def delete(self, document_id: str) -> None:
        """Remove the document's passages, if it has any."""

    async def count(self, document_id: str | None = None) -> int:
        """Count the passages, of one document or of all."""
