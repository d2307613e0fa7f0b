"""The pipeline over stand-ins that a test controls."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

import numpy as np

from app.documents.catalogue import Catalogue, Document
from app.documents.pipeline import Pages, Pipeline
from app.documents.submission import Submission
from app.stores.base import Hit, Passage, Source, Vector

MODEL = "model"
TIMEOUT = 20.0
"""Seconds until a wait gives up; only a defect takes so long."""


class MemoryStore:
    """A store that keeps the texts of each document, and how often each was replaced."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.replaced: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def replace(self, source: Source, passages: Sequence[Passage]) -> None:
        """Keep the passages."""
        self.texts[source.id] = [passage.text for passage in passages]
        self.replaced.append(source.id)

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:  # noqa: ARG002
        """Find nothing."""
        return []

    async def delete(self, document_id: str) -> None:
        """Forget the passages."""
        self.texts.pop(document_id, None)

    async def count(self, document_id: str | None = None) -> int:
        """Count the passages."""
        texts = self.texts if document_id is None else {document_id: self.texts[document_id]}
        return sum(map(len, texts.values()))


class Work:
    """A step that counts how many run at once, and waits until the test lets them go."""

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


class Reader:
    """Reads text as one passage, titled by its first word."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def read(
        self,
        content: bytes,
        *,
        media_type: str | None,  # noqa: ARG002
        filename: str | None,  # noqa: ARG002
        title: str,
    ) -> tuple[str, list[str]]:
        """Return the title and the passages."""
        await self._work.run()
        text = content.decode()
        return title or text.split()[0], [text]


class Embedder:
    """Embeds every text as the same vector."""

    model = MODEL

    async def embed(self, texts: Sequence[str]) -> Vector:
        """Return a row for each text."""
        return np.ones((len(texts), 1), np.float32)


class Site:
    """The pages of the web: each is its own URL."""

    def __init__(self, work: Work, *, width: int = 6) -> None:
        self.work = work
        self.pages: Pages | None = Pages(self._fetch, width=width, check=str)

    async def _fetch(self, url: str) -> str:
        await self.work.run()
        return f"page {url}"


@asynccontextmanager
async def pipeline_over(
    catalogue: Catalogue,
    store: MemoryStore,
    *,
    site: Site | None = None,
    work: Work | None = None,
    width: int = 2,
    retry_forever: tuple[type[Exception], ...] = (),
) -> AsyncIterator[Pipeline]:
    """Open a pipeline over stand-ins."""
    pipeline = Pipeline(
        catalogue,
        store,
        read=Reader(work or Work()).read,
        embedder=Embedder(),
        pages=(site or Site(Work())).pages,
        width=width,
        retry_forever=retry_forever,
    )
    async with pipeline:
        yield pipeline


async def submitted(catalogue: Catalogue, count: int) -> list[str]:
    """Submit so many pages; return their ids."""
    pages = [Submission.page(f"https://example.org/{number}") for number in range(count)]
    return [(await catalogue.submit(page))[0].id for page in pages]


async def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds that no event announces."""
    async with asyncio.timeout(TIMEOUT):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until_ready(catalogue: Catalogue, ids: Sequence[str]) -> None:
    """Wait until all of these documents are ready."""
    async with asyncio.timeout(TIMEOUT):
        for id_ in ids:
            while (await found(catalogue, id_)).state != "ready":  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def found(catalogue: Catalogue, document_id: str) -> Document:
    """Return a document that exists."""
    document = await catalogue.find(document_id)
    assert document is not None
    return document
