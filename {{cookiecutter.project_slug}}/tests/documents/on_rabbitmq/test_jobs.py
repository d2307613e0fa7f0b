"""Documents reach the workers, whatever happens to broker and workers, and are stored once."""

import asyncio
import signal

import pytest

from tests.documents.on_rabbitmq.node import RabbitMQNode
from tests.service import RunningService
from tests.stores.databases import on_its_own_store

from .conftest import LONG, Jobs

NEVER = 3600.0
"""Overdue: documents are processed by message only."""
SOON = 1.0
CONNECTED = {"celery": "Connected to", "taskiq": "Listening started"}

pytestmark = on_its_own_store


async def post(service: RunningService, *texts: str) -> list[str]:
    """Add documents."""
    answers = [await service.client.post("/documents", json={"text": text}) for text in texts]
    assert {answer.status_code for answer in answers} == {202}
    return [answer.json()["id"] for answer in answers]


async def test_sigterm(jobs: Jobs) -> None:
    """Documents are processed by message; on SIGTERM a worker finishes those it has."""
    async with jobs.service() as service:
        ids = await post(service, "a", "b")
        worker = await jobs.worker(overdue=NEVER)
        await jobs.until(lambda: jobs.noted("begun") == sorted(ids))
    worker.send_signal(signal.SIGTERM)
    jobs.go()
    assert await jobs.end(worker) == 0
    await jobs.stored_once(ids)


async def test_killed_worker(jobs: Jobs) -> None:
    """When a worker was killed in the middle of a batch, others process all of it.

    What it had received is delivered again at once; what it had begun is overdue after its lease.
    """
    async with jobs.service() as service:
        ids = await post(service, *"abcdefgh")
        worker = await jobs.worker(overdue=NEVER)
        await jobs.until(lambda: len(jobs.noted("begun")) > 1)
        await jobs.end(worker, signal.SIGKILL)
        left = set(ids) - set(jobs.noted("begun"))
        jobs.go()
        await jobs.worker(overdue=NEVER)
        await jobs.until(lambda: left <= set(jobs.noted("stored")))
        await jobs.worker(overdue=SOON)
        await jobs.stored_once(ids)


async def test_restarted_broker(jobs: Jobs, broker: RabbitMQNode) -> None:
    """Messages survive a restart of the broker; a worker waits for it, and finds it again."""
    jobs.go()
    async with jobs.service() as service:
        ids = await post(service, "a", "b")
        await jobs.publisher.send(ids)
        with broker.stopped():
            await jobs.worker(overdue=NEVER)
            await jobs.until(lambda: "111" in jobs.read("log"))  # connection refused
        await jobs.stored_once(ids)
        with broker.stopped():
            pass
        await jobs.stored_once(ids + await post(service, "c", "d"))


@pytest.mark.parametrize("state", ["stopped", "silent"])
async def test_unavailable_broker(jobs: Jobs, broker: RabbitMQNode, state: str) -> None:
    """Documents are accepted, and processed once overdue; service and worker end in time."""
    jobs.go()
    worker = await jobs.worker(overdue=SOON)
    await jobs.until(lambda: CONNECTED[jobs.tool] in jobs.read("log"))
    with getattr(broker, state)():
        async with jobs.service() as service:
            ids = await post(service, "a", "b")
        await jobs.stored_once(ids)
        assert await jobs.end(worker) == 0
        async with asyncio.timeout(LONG):
            await asyncio.get_running_loop().shutdown_default_executor()
