"""Builds what stores, processes and finds documents.

The service, the job workers and `python -m app.ingest` all use it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass

import httpx

from app.concurrency.limiter import ConcurrencyLimiter, LimiterError
from app.documents.catalogue import Catalogue, CatalogueMismatchError
from app.documents.jobs.celery import celery_publisher  # optional: job_queue=celery
from app.documents.jobs.taskiq import taskiq_publisher  # optional: job_queue=taskiq
from app.documents.pipeline import NO_PAGES, Pages, Pipeline
from app.documents.reading import Reader
from app.documents.source import DocumentSource
from app.embeddings.base import Embedder
from app.embeddings.hashing import HashingEmbedder
from app.embeddings.remote import RemoteEmbedder
from app.llm.base import ProviderAuthenticationError
from app.llm.openai import OpenAIProvider
from app.llm.router import Router
from app.settings import Settings
from app.stores.base import PassageStore, StoreUnavailableError
from app.stores.pgvector import PgvectorStore  # optional: vector_store=pgvector
from app.stores.qdrant import QdrantStore  # optional: vector_store=qdrant
from app.stores.sqlite import SqliteStore  # optional: vector_store=sqlite
from app.websearch.base import WebAccountError  # optional: ingestion_client
from app.wiring.http import build_source_client
from app.wiring.websearch import open_web  # optional: ingestion_client

RETRY_FOREVER = (
    LimiterError,
    ProviderAuthenticationError,
    WebAccountError,  # optional: ingestion_client
)
"""Configuration errors and full queues: they postpone a document and never fail it."""
UPLOADS, UPLOAD_QUEUE, UPLOAD_TIMEOUT = 8, 64, 30.0
"""Documents accepted at once, as each is held in memory; how many may wait, and for how long."""
Publish = Callable[[str], None]
"""Announces a document that was queued; returns at once."""


@dataclass(frozen=True, kw_only=True)
class Documents:
    """What stores, processes and finds documents; `publish` announces one that was queued."""

    catalogue: Catalogue
    store: PassageStore
    pipeline: Pipeline
    pages: Pages
    source: DocumentSource
    publish: Publish
    uploads: ConcurrencyLimiter


def build_store(settings: Settings) -> PassageStore:
    """Build the store at VECTOR_STORE_URL; ValueError if that is not its address."""
    kind: Callable[[str], PassageStore]
    kind = PgvectorStore  # optional: vector_store=pgvector
    kind = QdrantStore  # optional: vector_store=qdrant
    kind = SqliteStore  # optional: vector_store=sqlite
    try:
        return kind(settings.vector_store_url.get_secret_value())
    except ValueError as error:
        raise ValueError(f"VECTOR_STORE_URL: {error}") from None


def build_catalogue(settings: Settings) -> Catalogue:
    """Build the catalogue at DATABASE_URL, by default the store's database."""
    url = settings.database_url.get_secret_value() or settings.vector_store_url.get_secret_value()
    try:
        return Catalogue(url, model=settings.embedding_model or HashingEmbedder.model)
    except ValueError as error:
        raise ValueError(f"DATABASE_URL: {error}") from None


def build_embedder(settings: Settings, client: httpx.AsyncClient) -> Embedder:
    """Build the embedded model, or that of EMBEDDING_MODEL at OPENAI_BASE_URL."""
    if settings.embedding_model is None:
        return HashingEmbedder()
    server = OpenAIProvider(
        client,
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key.get_secret_value(),
    )
    retrying = Router([server], models={}, deadlines=settings.deadlines)
    return RemoteEmbedder(
        retrying.embed,
        model=settings.embedding_model,
        concurrency=settings.embedding_max_concurrency,
    )


def check_documents(settings: Settings) -> None:
    """Set up store and catalogue before anything starts; exit with one line if that is impossible.

    A server that is not reachable yet is no error: its first use tries again.
    """

    async def set_up() -> None:
        async with build_store(settings), build_catalogue(settings) as catalogue:
            await catalogue.set_up()

    try:
        asyncio.run(set_up())
    except (ValueError, CatalogueMismatchError) as error:
        sys.exit(str(error))
    except StoreUnavailableError as error:
        if settings.vector_store_url.get_secret_value().startswith("sqlite"):
            sys.exit(f"VECTOR_STORE_URL: {error}")


@asynccontextmanager
async def open_documents(
    settings: Settings,
    client: httpx.AsyncClient,
    pages: Pages | None = None,
    *,
    serving: bool = False,
) -> AsyncIterator[Documents]:
    """Open everything; a service also processes all documents, or publishes them to job workers."""
    embedder, pages = build_embedder(settings, client), pages or NO_PAGES
    width = settings.ingestion_concurrency
    async with (
        build_store(settings) as store,
        build_catalogue(settings) as catalogue,
        Reader(processes=width) as reader,
        Pipeline(
            catalogue,
            store,
            read=reader.read,
            embedder=embedder,
            pages=pages,
            width=width,
            retry_forever=RETRY_FOREVER,
        ) as pipeline,
    ):
        publisher: AbstractAsyncContextManager[Publish] = nullcontext(pipeline.wake)
        if serving:
            broker = str(settings.broker_url.get_secret_value())  # optional: job_queue
            publisher = celery_publisher(broker)  # optional: job_queue=celery
            publisher = taskiq_publisher(broker)  # optional: job_queue=taskiq
            publisher = pipeline.started()  # optional: job_queue=none
        async with publisher as publish:
            yield Documents(
                catalogue=catalogue,
                store=store,
                pipeline=pipeline,
                pages=pages,
                source=DocumentSource(store, embedder),
                publish=publish,
                uploads=ConcurrencyLimiter(
                    UPLOADS, max_queue=UPLOAD_QUEUE, queue_timeout=UPLOAD_TIMEOUT
                ),
            )


@asynccontextmanager
async def open_documents_alone(settings: Settings) -> AsyncIterator[Documents]:
    """Open everything with an HTTP client of its own, for a process that does not serve."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(build_source_client(settings))
        pages = None
        web = open_web(settings, client)  # optional: ingestion_client
        pages = (await stack.enter_async_context(web)).pages  # optional: ingestion_client
        yield await stack.enter_async_context(open_documents(settings, client, pages))
