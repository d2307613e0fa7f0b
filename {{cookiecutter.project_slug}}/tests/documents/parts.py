"""Stand-ins for what works on documents: a store in memory of the test, a reader, a queue."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from app.embeddings.protocol import Vectors
from app.ingestion.decoding import ExtractionError
from app.stores.protocol import Document, Passage


class Documents:
    """A store that keeps documents, contents and passages in dictionaries."""

    def __init__(self) -> None:
        self.documents: dict[str, Document] = {}
        self.contents: dict[str, bytes] = {}
        self.passages: dict[str, Sequence[Passage]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def submit(self, document: Document, content: bytes) -> None:
        """See `DocumentStore`."""
        self.documents[document.id], self.contents[document.id] = document, content

    async def document(self, document_id: str) -> Document | None:
        """See `DocumentStore`."""
        return self.documents.get(document_id)

    async def begin(self, document_id: str) -> tuple[Document, bytes] | None:
        """See `DocumentStore`."""
        document = self.documents.get(document_id)
        if document is None or document.state in {"ready", "failed"}:
            return None
        begun = replace(document, state="processing", attempts=document.attempts + 1)
        self.documents[document_id] = begun
        return begun, self.contents[document_id]

    async def upsert(
        self, document_id: str, revision: str, passages: Sequence[Passage], *, title: str = ""
    ) -> bool:
        """See `DocumentStore`."""
        document = self.documents.get(document_id)
        if document is None or document.revision != revision:
            return False
        title = document.title or title
        self.passages[document_id] = passages
        self.documents[document_id] = replace(
            document, state="ready", title=title, passages=len(passages)
        )
        return True

    async def fail(self, document_id: str, revision: str, error: str) -> None:
        """See `DocumentStore`."""
        document = self.documents[document_id]
        if document.revision == revision:
            self.documents[document_id] = replace(document, state="failed", error=error)

    async def delete(self, document_id: str) -> bool:
        """See `DocumentStore`."""
        return self.documents.pop(document_id, None) is not None

    async def unfinished(self) -> list[str]:
        """See `DocumentStore`."""
        return [d.id for d in self.documents.values() if d.state in {"queued", "processing"}]

    async def count(self) -> int:
        """See `DocumentStore`."""
        return sum(map(len, self.passages.values()))

    async def search(self, text: str, vector: Any, *, limit: int) -> list[Any]:
        """See `DocumentStore`."""
        raise NotImplementedError


class Words:
    """A reader for which each line is a passage; a text that says `unreadable` is."""

    async def passages_of(
        self, content: bytes, media_type: str | None, filename: str | None, *, title: str
    ) -> tuple[str, list[str]]:
        """See `Reader`."""
        text = content.decode()
        if text == "unreadable":
            raise ExtractionError("nobody can read this")
        return title or filename or f"found in {media_type}", text.splitlines()


class Ones:
    """An embedder for which all texts are alike; `errors` are raised first."""

    model = "ones"

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`."""
        if self.errors:
            raise self.errors.pop(0)
        return np.ones((len(texts), 1), np.float32)


class Noted:
    """A queue that notes what was published; `errors` are raised first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.jobs: list[tuple[str, int]] = []
        self.published = asyncio.Event()

    async def publish(self, document_id: str, *, priority: int = 0) -> None:
        """See `JobQueue`."""
        if self.errors:
            raise self.errors.pop(0)
        self.jobs.append((document_id, priority))
        self.published.set()

    async def may_resume(self) -> bool:
        """See `JobQueue`."""
        return True
