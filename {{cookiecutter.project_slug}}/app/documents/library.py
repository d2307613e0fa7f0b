"""The documents that answers are made from: handed in, looked up, taken out."""

import asyncio

from app.documents.submission import Submission
from app.errors import UnknownDocumentError
from app.jobs.protocol import JobQueue
from app.stores.protocol import Document, DocumentStore

HANDED_IN = 5
"""The priority of what somebody waits for; what is only resumed has 0."""


class Library:
    """The store of documents and the queue of those that are still to be worked on."""

    def __init__(self, store: DocumentStore, jobs: JobQueue) -> None:
        self._store = store
        self._jobs = jobs

    async def add(self, submission: Submission) -> tuple[Document, bool]:
        """Take a document in, and say whether it is new, changed, or failed before.

        A job is queued for it, also if it waits already: that job may have been lost, and two do
        no harm. If that fails the document stays queued, and handing it in again mends it.
        """
        document = await asyncio.to_thread(lambda: submission.document)  # hashes all of it
        known = await self._store.document(document.id)
        is_new = known is None or known.revision != document.revision or known.state == "failed"
        if is_new:
            await self._store.submit(document, submission.content.pack())
        if is_new or (known is not None and known.state == "queued"):
            await self._jobs.publish(document.id, priority=HANDED_IN)
        return (document if known is None or is_new else known), is_new

    async def find(self, document_id: str) -> Document:
        """Return a document and how far it has got; UnknownDocumentError if there is none."""
        document = await self._store.document(document_id)
        if document is None:
            raise _unknown(document_id)
        return document

    async def remove(self, document_id: str) -> None:
        """Take a document out, with all that could be found of it; UnknownDocumentError if none."""
        if not await self._store.delete(document_id):
            raise _unknown(document_id)


def _unknown(document_id: str) -> UnknownDocumentError:
    return UnknownDocumentError(f"there is no document {document_id!r}")
