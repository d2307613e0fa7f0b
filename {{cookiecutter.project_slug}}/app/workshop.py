"""What works on documents: the store, the embedder, readers in processes of their own.

The service, its job workers and `python -m app.ingest` all open this.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx

from app.documents.work import DocumentWork, Fetch, no_pages
from app.embedder import build_embedder, model_of
from app.http import build_http_client
from app.ingestion.reading import DocumentReader
from app.ingestion.worker import WorkerPool
from app.retrieval.protocol import Source
from app.settings import Settings
from app.sources.documents import DocumentSource
from app.stores.pgvector import PgvectorStore  # optional: vector_store=pgvector
from app.stores.protocol import DocumentStore, StoreError
from app.stores.qdrant import QdrantStore  # optional: vector_store=qdrant
from app.stores.sqlite import SqliteStore  # optional: vector_store=sqlite
from app.web_vendor import open_web  # optional: ingestion_client

SPARE_CONNECTIONS = 8
"""Beyond all ceilings: connections that are closing still count in the pool."""

StoreKind = Callable[..., DocumentStore]
"""Makes a store of its address and the `model` whose vectors it holds."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What documents are made findable with, and found."""

    store: DocumentStore
    work: DocumentWork
    sources: list[Source]


@asynccontextmanager
async def workshop_alone(settings: Settings) -> AsyncIterator[Workshop]:
    """Open a workshop and an HTTP client of its own, for a process that does not serve."""
    async with AsyncExitStack() as stack:
        client = build_http_client(
            max_connections=connections_needed(settings),
            connect_timeout=settings.llm_timeout_connect,
        )
        await stack.enter_async_context(client)
        yield await open_workshop(settings, client, stack)


def connections_needed(settings: Settings) -> int:
    """Say how many connections its calls and those that are just closing may have at once."""
    calls = [
        settings.embedding_max_concurrency,
        settings.serppost_request_slots,  # optional: ingestion_client
    ]
    return sum(calls) + SPARE_CONNECTIONS


def build_store(settings: Settings, model: str) -> DocumentStore:
    """Build the store at VECTOR_STORE_URL, for the vectors of a model; StoreError if it is none."""
    kind: StoreKind
    kind = PgvectorStore  # optional: vector_store=pgvector
    kind = QdrantStore  # optional: vector_store=qdrant
    kind = SqliteStore  # optional: vector_store=sqlite
    try:
        return kind(settings.vector_store_url.get_secret_value(), model=model)
    except ValueError as error:
        raise StoreError(str(error)) from None


async def check_store(settings: Settings) -> None:
    """Set the store up, before processes that serve are started; StoreError if it cannot serve.

    A database that cannot be reached yet is no error: whoever needs it tries again.
    """
    async with build_store(settings, model_of(settings)):
        pass


async def open_workshop(
    settings: Settings, client: httpx.AsyncClient, stack: AsyncExitStack
) -> Workshop:
    """Open everything in order; `stack` closes it."""
    embedder = build_embedder(settings, client)
    store = await stack.enter_async_context(build_store(settings, embedder.model))
    sources: list[Source] = [DocumentSource(store, embedder)]
    fetch: Fetch = no_pages
    fetch, web = await open_web(settings, client, stack)  # optional: ingestion_client
    sources += web  # optional: ingestion_client
    pool = await stack.enter_async_context(WorkerPool(processes=settings.ingestion_concurrency))
    work = DocumentWork(store, embedder, DocumentReader(pool), fetch)
    return Workshop(store, work, sources)
