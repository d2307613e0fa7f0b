"""The whole service on its embedded parts: a document goes in, and an answer cites it."""

import asyncio
from pathlib import Path

from app.documents.submission import Submission
from app.embeddings.hashing import HashingEmbedder
from app.stores.sqlite import SqliteStore
from tests.process import PYTHON, run
from tests.service import RunningService, serve
from tests.stores.contract import LONG, passages, store_passages

TEXT = "# Zebras\n\nA zebra has black and white stripes."


async def ready(service: RunningService, document_id: str) -> None:
    """Wait until a document can be found."""
    async with asyncio.timeout(LONG):
        state = None
        while state != "ready":
            await asyncio.sleep(0.01)
            state = (await service.client.get(f"/documents/{document_id}")).json()["state"]


async def test_document_is_cited() -> None:
    """A text is split, embedded and stored in the background, and then found."""
    async with serve() as service:
        answer = await service.client.post("/documents", json={"text": TEXT})
        await ready(service, answer.json()["id"])
        events = await service.chat(
            messages=[{"role": "user", "content": "Which stripes has a zebra?"}], retrieve=True
        )
    assert events[0].data["sources"][0]["title"] == "Zebras"
    assert "[1]" in "".join(event.data["text"] for event in events if event.name == "token")


async def test_unfinished_documents_are_resumed(tmp_path: Path) -> None:
    """What a process that died had not finished, the next one does."""
    path = tmp_path / "documents.db"
    submission = Submission.text(TEXT)
    document = submission.document
    async with SqliteStore(path, model=HashingEmbedder.model) as store:
        await store.submit(document, submission.content.pack())
        await store.begin(document.id)
    async with serve(vector_store_url=f"sqlite:///{path}") as service:
        await ready(service, document.id)


async def test_another_model_does_not_start(tmp_path: Path) -> None:
    """A store that another embedding model has filled ends the start with one clear line."""
    async with SqliteStore(tmp_path / "documents.db", model="model-of-before") as store:
        await store_passages(store, "d", passages("text"))
    code, _, said = await run(tmp_path, PYTHON, "-m", "app")
    assert (code, len(said.splitlines())) == (1, 1), said
    assert "model-of-before" in said
    assert HashingEmbedder.model in said


async def test_bad_address_does_not_start(tmp_path: Path) -> None:
    """An address that is no file of SQLite's ends the start with one clear line."""
    bad = "sqlite:///:memory:"
    code, _, said = await run(tmp_path, PYTHON, "-m", "app", VECTOR_STORE_URL=bad)
    assert (code, len(said.splitlines())) == (1, 1), said
    assert "VECTOR_STORE_URL" in said
