"""The whole service on its embedded parts: a document goes in, and an answer cites it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.documents.submission import Submission
from app.embeddings.hashing import HashingEmbedder
from app.settings import Settings
from app.stores.protocol import DocumentStore
from app.workshop import build_store
from tests.process import SERVE, run
from tests.service import RunningService, serve
from tests.stores.contract import LONG, Engine, passages, store_passages
from tests.stores.databases import on_its_own_store

TEXT = "# Zebras\n\nA zebra has black and white stripes."


pytestmark = on_its_own_store


@pytest.fixture
async def store(store_address: str) -> AsyncIterator[DocumentStore]:
    """Provide the service's store, opened beside it."""
    settings = Settings(_env_file=None, vector_store_url=store_address)  # type: ignore[call-arg, arg-type]
    async with build_store(settings, HashingEmbedder.model) as store:
        yield store


async def ready(service: RunningService, document_id: str) -> None:
    """Wait until a document can be found."""
    async with asyncio.timeout(LONG):
        state = None
        while state != "ready":
            await asyncio.sleep(0.01)
            state = (await service.client.get(f"/documents/{document_id}")).json()["state"]


async def test_document_is_cited(store_address: str) -> None:
    """A text is split, embedded and stored in the background, and then found."""
    async with serve(vector_store_url=store_address) as service:
        answer = await service.client.post("/documents", json={"text": TEXT})
        await ready(service, answer.json()["id"])
        events = await service.chat(
            messages=[{"role": "user", "content": "Which stripes has a zebra?"}], retrieve=True
        )
    assert events[0].data["sources"][0]["title"] == "Zebras"
    assert "[1]" in "".join(event.data["text"] for event in events if event.name == "token")


async def test_unfinished_documents_are_resumed(store: DocumentStore, store_address: str) -> None:
    """What a process that died had not finished, the next one does."""
    submission = Submission.text(TEXT)
    document = submission.document
    await store.submit(document, submission.content.pack())
    await store.begin(document.id)
    async with serve(vector_store_url=store_address) as service:
        await ready(service, document.id)


async def test_another_model_does_not_start(
    store: DocumentStore, store_address: str, tmp_path: Path
) -> None:
    """A store that another embedding model has filled ends the start with one clear line."""
    await store_passages(store, "d", passages("text"))
    model = {"EMBEDDING_MODEL": "model-of-now", "OPENAI_API_KEY": "sk"}
    code, _, said = await run(tmp_path, *SERVE, VECTOR_STORE_URL=store_address, **model)
    assert (code, len(said.splitlines())) == (1, 1), said
    assert "model-of-now" in said
    assert HashingEmbedder.model in said


async def test_bad_address_does_not_start(engine: Engine, tmp_path: Path) -> None:
    """An address at which there can be no store ends the start with one clear line."""
    code, _, said = await run(tmp_path, *SERVE, VECTOR_STORE_URL=engine.BAD_ADDRESS)
    assert (code, len(said.splitlines())) == (1, 1), said
    assert "VECTOR_STORE_URL" in said
