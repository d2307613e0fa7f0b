"""The service on a store of its own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from app.documents.catalogue import Document
from app.wiring.documents import Documents
from tests.documents.parts import found
from tests.service import RunningService, serve

ENDED = {"ready", "failed"}


@dataclass(frozen=True)
class Library:
    """A running service and its documents."""

    service: RunningService

    @property
    def documents(self) -> Documents:
        """What the routes use."""
        return self.service.services.retrieval.documents

    async def add(self, **document: object) -> str:
        """Add a document, wait until it is processed, and return its id."""
        answer = await self.service.client.post("/documents", json=document)
        assert answer.status_code == 202, answer.text
        return (await self.processed(answer.json()["id"])).id

    async def processed(self, document_id: str) -> Document:
        """Process a document, here or in the service, and return it."""
        while (document := await found(self.documents.catalogue, document_id)).state not in ENDED:
            await self.documents.pipeline.process(document_id)
        return document


@pytest.fixture
async def library(store_address: str) -> AsyncIterator[Library]:
    """Provide a service whose store is empty."""
    async with serve(vector_store_url=store_address) as service:
        yield Library(service)
