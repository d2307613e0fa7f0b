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
from app.settings import Settings
from app.workshop import build_store
from tests.process import PYTHON, ServiceProcess, start, start_service
from tests.rabbitmq import RabbitMQNode
from tests.stores.databases import on_its_own_store

from .peek import LONG

pytestmark = [
    on_its_own_store,
    pytest.mark.skipif(
        hasattr(app.knowledge, "InProcessQueue"), reason="this service does the work itself"
    ),
]
TEXT = {"text": "# Zebras\n\nA zebra has stripes."}


@pytest.fixture
def environment(broker_node: RabbitMQNode, store_address: str) -> dict[str, str]:
    """Provide the environment that service and workers share."""
    return {"BROKER_URL": broker_node.url, "VECTOR_STORE_URL": store_address}


@asynccontextmanager
async def worker(folder: Path, environment: dict[str, str]) -> AsyncIterator[Process]:
    """Run a worker; what is left of it in the end is killed."""
    process = await start(folder, PYTHON, "-m", "app.worker", **environment)
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


async def test_document_is_done_by_a_worker(environment: dict[str, str], tmp_path: Path) -> None:
    """What the service takes in waits for a worker, which makes it ready; SIGTERM ends that."""
    async with start_service(tmp_path, **environment) as service:
        answer = await service.client.post("/documents", json=TEXT)
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        async with worker(tmp_path, environment) as process:
            await until_ready(service, answer.json()["id"])
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LONG):
                assert await process.wait() == 0


async def test_broker_that_is_away_is_503(environment: dict[str, str], tmp_path: Path) -> None:
    """Without a broker it is 503; the document is kept, and a worker that starts takes it up."""
    nowhere = {"BROKER_URL": "amqp://guest:guest@127.0.0.1:1/"}
    async with start_service(tmp_path, **environment | nowhere) as service:
        answer = await service.client.post("/documents", json=TEXT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        (await service.client.get("/readyz")).raise_for_status()
    async with (
        start_service(tmp_path, **environment) as service,
        worker(tmp_path, environment),
    ):
        again = await service.client.post("/documents", json=TEXT)
        assert again.status_code == 200
        await until_ready(service, again.json()["id"])


async def test_killed_worker_loses_and_doubles_nothing(
    environment: dict[str, str], store_address: str, tmp_path: Path
) -> None:
    """A worker that is killed in the middle of many: each document is in the store once."""
    texts = [f"# Zebra {number}\n\nIt has {number} stripes." for number in range(40)]
    async with start_service(tmp_path, **environment) as service:
        answers = [await service.client.post("/documents", json={"text": text}) for text in texts]
        ids = [answer.json()["id"] for answer in answers]
        async with worker(tmp_path, environment) as first:
            await until_ready(service, ids[0])
            os.killpg(first.pid, signal.SIGKILL)
            await first.wait()
        async with worker(tmp_path, environment):
            for document_id in ids:
                await until_ready(service, document_id)
    settings = Settings(_env_file=None, vector_store_url=store_address)  # type: ignore[call-arg, arg-type]
    async with build_store(settings, HashingEmbedder.model) as store:
        assert await store.count() == len(texts)
