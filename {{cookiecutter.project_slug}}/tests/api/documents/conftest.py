"""The service on each store there is, with a queue that the test has in its hands."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from app.documents.library import Library
from app.documents.work import DocumentWork, no_pages
from app.embeddings.hashing import HashingEmbedder
from app.ingestion.reading import DocumentReader
from app.ingestion.worker import WorkerPool
from app.jobs.protocol import JobQueueUnavailableError
from app.knowledge import Knowledge
from app.retrieval.gather import Retriever
from app.sources.documents import DocumentSource
from app.stores.protocol import DocumentStore
from tests.service import RunningService, serve
from tests.stores.contract import LONG, OpenStore


class Jobs:
    """A queue whose jobs are done when the test says so; published to while `away`, it refuses."""

    def __init__(self, work: DocumentWork) -> None:
        self._work = work
        self._waiting: list[str] = []
        self.away = False

    async def publish(self, document_id: str, **_: int) -> None:
        """See `JobQueue`."""
        if self.away:
            raise JobQueueUnavailableError("amqp://secret-host is away", retry_after=5)
        self._waiting.append(document_id)

    async def may_resume(self) -> bool:
        """See `JobQueue`."""
        return True

    async def do_all(self) -> None:
        """Do what waits."""
        while self._waiting:
            await self._work.process(self._waiting.pop())


@dataclass(frozen=True)
class Shelf:
    """A running service, and what it keeps its documents with."""

    service: RunningService
    jobs: Jobs
    store: DocumentStore

    async def add(self, **document: object) -> str:
        """Hand a document in, have it worked on, return its id."""
        answer = await self.service.client.post("/documents", json=document)
        assert answer.status_code == 202, answer.text
        await self.jobs.do_all()
        return str(answer.json()["id"])


@pytest.fixture
async def shelf(open_store: OpenStore) -> AsyncIterator[Shelf]:
    """Provide a service whose store is the test's own."""
    embedder = HashingEmbedder()
    async with (
        open_store(embedder.model) as store,
        WorkerPool(processes=1) as pool,
        Retriever([DocumentSource(store, embedder)], timeout=LONG, limit=5) as retriever,
        serve() as service,
    ):
        jobs = Jobs(DocumentWork(store, embedder, DocumentReader(pool), no_pages))
        uploads = service.services.knowledge.uploads
        service.use(knowledge=Knowledge(Library(store, jobs), retriever, uploads))
        yield Shelf(service, jobs, store)
