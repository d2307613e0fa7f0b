"""The pipeline over stand-ins that a test controls."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fpdf import FPDF
from fpdf.enums import AccessPermission, EncryptionMethod

from app.documents.catalogue import Catalogue, Document
from app.documents.pipeline import NO_PAGES, Pages, Pipeline
from app.embeddings.hashing import HashingEmbedder
from app.errors import ServiceError
from app.stores.base import Passage, Source
from tests.service import PATIENCE

MODEL = "model"


class AccountError(ServiceError):
    """A wrong key, say: the pipeline retries it for ever."""


class MemoryStore:
    """What the pipeline uses of a store: keeps the texts of each document, and each replacement."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.replaced: list[str] = []

    async def replace(self, source: Source, passages: Sequence[Passage]) -> None:
        """Keep the passages."""
        self.texts[source.id] = [passage.text for passage in passages]
        self.replaced.append(source.id)

    async def delete(self, document_id: str) -> None:
        """Forget the passages."""
        self.texts.pop(document_id, None)


class Work:
    """Fetching or reading: counts how many run at once, and waits until the test lets them go."""

    def __init__(self, *, open_: bool = True) -> None:
        self.started = asyncio.Event()
        self.open = asyncio.Event()
        self.now = self.peak = self.calls = 0
        self.error: Exception | None = None
        if open_:
            self.open.set()

    async def run(self) -> None:
        """Be one call."""
        self.calls += 1
        self.now += 1
        self.peak = max(self.peak, self.now)
        self.started.set()
        try:
            await self.open.wait()
            if self.error is not None:
                raise self.error
            await asyncio.sleep(0)
        finally:
            self.now -= 1

    async def fetch(self, url: str) -> str:
        """Return the URL as its page."""
        await self.run()
        return f"page {url}"

    async def read(self, content: bytes, *, title: str, **_: object) -> tuple[str, list[str]]:
        """Return the content as one passage, titled by its first word."""
        await self.run()
        text = content.decode()
        return title or text.split()[0], [text]


@asynccontextmanager
async def pipeline_over(
    catalogue: Catalogue,
    store: Any,
    *,
    fetching: Work | None = None,
    reading: Work | None = None,
    pages: bool = True,
) -> AsyncIterator[Pipeline]:
    """Open a pipeline over stand-ins that fetches 6 pages and works on 2 documents at once."""
    fetch = (fetching or Work()).fetch
    pipeline = Pipeline(
        catalogue,
        store,
        read=(reading or Work()).read,
        embedder=HashingEmbedder(),
        pages=Pages(fetch, width=6, check=str) if pages else NO_PAGES,
        width=2,
        retry_forever=(AccountError,),
    )
    async with pipeline:
        yield pipeline


async def submitted(catalogue: Catalogue, count: int) -> list[str]:
    """Submit so many pages; return their ids."""
    pages = [Document(url=f"https://example.org/{number}") for number in range(count)]
    return [(await catalogue.submit(page))[0].id for page in pages]


async def until_ready(catalogue: Catalogue, ids: Sequence[str]) -> None:
    """Wait until all of these documents are ready."""
    async with asyncio.timeout(PATIENCE):
        for id_ in ids:
            while (await found(catalogue, id_)).state != "ready":  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def found(catalogue: Catalogue, document_id: str) -> Document:
    """Return a document that exists."""
    document = await catalogue.find(document_id)
    assert document is not None
    return document


def pdf(*pages: str, title: str = "", password: str | None = None) -> bytes:
    """Write a PDF of these pages; an empty password encrypts it, but opens it."""
    document = FPDF()
    document.set_font("helvetica", size=12)
    document.set_title(title)
    for page in pages:
        document.add_page()
        document.multi_cell(0, text=page)
    if password is not None:
        document.set_encryption(
            "owner", password, EncryptionMethod.RC4, permissions=AccessPermission.none()
        )
    return bytes(document.output())
