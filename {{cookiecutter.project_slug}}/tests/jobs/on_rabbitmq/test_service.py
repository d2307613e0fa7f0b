"""The service and `python -m app.worker` as an operator runs them, with a broker between them."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import app.knowledge
from app.embeddings.hashing import HashingEmbedder
from app.stores.sqlite import SqliteStore
from tests.process import PYTHON, ServiceProcess, start, start_service
from tests.rabbitmq import RabbitMQNode

from .peek import LONG

pytestmark = pytest.mark.skipif(
    hasattr(app.knowledge, "InProcessQueue"), reason="this service does the work itself"
)
TEXT = {"text": "# Zebras\n\nA zebra has stripes."}


@asynccontextmanager
async def worker(folder: Path, broker: str) -> AsyncIterator[Process]:
    """Run a worker; what is left of it in the end is killed."""
    process = await start(folder, PYTHON, "-m", "app.worker", BROKER_URL=broker)
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def until_ready(service: ServiceProcess, document_id: str) -> None:
    """Wait until a document can be found."""
    state = None
    async with asyncio.timeout(LONG):
        while state != "ready":
            await asyncio.sleep(0.05)
            state = (await service.client.get(f"/documents/{document_id}")).json()["state"]


async def test_document_is_done_by_a_worker(broker_node: RabbitMQNode, tmp_path: Path) -> None:
    """What the service takes in waits for a worker, which makes it ready; SIGTERM ends that."""
    async with start_service(tmp_path, BROKER_URL=broker_node.url) as service:
        answer = await service.client.post("/documents", json=TEXT)
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        async with worker(tmp_path, broker_node.url) as process:
            await until_ready(service, answer.json()["id"])
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LONG):
                assert await process.wait() == 0


async def test_broker_that_is_away_is_503(broker_node: RabbitMQNode, tmp_path: Path) -> None:
    """Without a broker it is 503; the document is kept, and a worker that starts takes it up."""
    nowhere = "amqp://guest:guest@127.0.0.1:1/"
    async with start_service(tmp_path, BROKER_URL=nowhere) as service:
        answer = await service.client.post("/documents", json=TEXT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        (await service.client.get("/readyz")).raise_for_status()
    async with (
        start_service(tmp_path, BROKER_URL=broker_node.url) as service,
        worker(tmp_path, broker_node.url),
    ):
        again = await service.client.post("/documents", json=TEXT)
        assert again.status_code == 200
        await until_ready(service, again.json()["id"])


async def test_killed_worker_loses_and_doubles_nothing(
    broker_node: RabbitMQNode, tmp_path: Path
) -> None:
    """A worker that is killed in the middle of many: each document is in the store once."""
    texts = [f"# Zebra {number}\n\nIt has {number} stripes." for number in range(40)]
    async with start_service(tmp_path, BROKER_URL=broker_node.url) as service:
        answers = [await service.client.post("/documents", json={"text": text}) for text in texts]
        ids = [answer.json()["id"] for answer in answers]
        async with worker(tmp_path, broker_node.url) as first:
            await until_ready(service, ids[0])
            os.killpg(first.pid, signal.SIGKILL)
            await first.wait()
        async with worker(tmp_path, broker_node.url):
            for document_id in ids:
                await until_ready(service, document_id)
    async with SqliteStore(tmp_path / "documents.db", model=HashingEmbedder.model) as store:
        assert await store.count() == len(texts)
