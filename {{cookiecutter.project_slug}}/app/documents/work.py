"""The job that makes a document's content findable: read, split, embed, store.

It may be done twice, or by two workers at once: the store takes what is of the document's current
revision, and replaces all passages in one step.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from app.documents.submission import MARKDOWN, Content
from app.embeddings.protocol import Embedder
from app.ingestion.decoding import ExtractionError
from app.jobs.protocol import RetryLater
from app.stores.protocol import Document, DocumentStore, Passage

OPERATORS = {
    "BadKeyError", "EmbeddingMismatchError", "OutOfCreditError", "ProviderAuthenticationError",
    "ProviderRejectedError",
}  # fmt: skip
"""Failures that are not the document's: it stays unfinished, and is resumed after the mend."""

MOST_ATTEMPTS = 50
"""Over all restarts: a document that ends the process that reads it must not do so for ever."""

Fetch = Callable[[str], Awaitable[str]]
"""Returns a page as Markdown; ExtractionError if it has none, RetryLater if it may have later."""


class Reader(Protocol):
    """What makes passages of a document's bytes, as `DocumentReader` does."""

    async def passages_of(
        self, content: bytes, media_type: str | None, filename: str | None, *, title: str
    ) -> tuple[str, list[str]]:
        """Return the title and the passages; ExtractionError if there never will be any."""
        ...


class DocumentWork:
    """A JobHandler: the job is the id of a document in the store."""

    def __init__(
        self, store: DocumentStore, embedder: Embedder, reader: Reader, fetch: Fetch
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._reader = reader
        self._fetch = fetch

    async def process(self, document_id: str) -> None:
        """Make the document ready, or note why it never will be; else raise, to be called again."""
        begun = await self._store.begin(document_id)
        if begun is None:
            return
        document, packed = begun
        if document.attempts > MOST_ATTEMPTS:
            given_up = f"given up: begun {MOST_ATTEMPTS} times and never finished"
            await self._store.fail(document.id, document.revision, given_up)
            return
        try:
            title, passages = await self._passages(document, Content.unpack(packed))
            await self._store.upsert(document.id, document.revision, passages, title=title)
        except ExtractionError as error:
            await self._store.fail(document.id, document.revision, str(error))
        except Exception as error:
            wait: float | None = getattr(error, "retry_after", None)
            if wait is None:
                raise
            raise RetryLater(f"{type(error).__name__}: {error}", after=wait) from error

    async def give_up(self, document_id: str, error: str) -> None:
        """Note that no attempt has helped; what the errors said is in the log.

        Not of a revision that was handed in meanwhile, which nobody has begun.
        """
        kind = error.removeprefix(f"{RetryLater.__name__}: ").partition(":")[0]
        document = await self._store.document(document_id)
        if document and document.state == "processing" and kind not in OPERATORS:
            await self._store.fail(document.id, document.revision, f"given up: {kind}")

    async def _passages(self, document: Document, content: Content) -> tuple[str, list[Passage]]:
        data, media_type = content.data, content.media_type
        if content.url is not None:
            data, media_type = (await self._fetch(content.url)).encode(), MARKDOWN
        title, texts = await self._reader.passages_of(
            data, media_type, content.filename, title=document.title
        )
        vectors = await self._embedder.embed(texts)
        return title, [Passage(text, row) for text, row in zip(texts, vectors, strict=True)]


async def no_pages(_: str) -> str:
    """Be a Fetch for a service that reads no pages: one may be left from when it did."""
    raise ExtractionError("this service reads no pages: it has no key for that, or is made without")
