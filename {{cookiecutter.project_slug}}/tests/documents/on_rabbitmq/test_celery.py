"""Malformed messages, on which Celery's own consumer would end."""

from typing import Any

import pytest
from kombu import Connection, Producer

from app.documents.celery import QUEUE
from app.documents.publishing import TASK
from tests.rabbitmq import RabbitMQNode
from tests.stores.databases import on_its_own_store

from .conftest import Jobs

CALL = {"task": TASK, "id": "1", "root_id": "1", "lang": "py", "retries": 0}
MALFORMED: list[tuple[dict[str, Any], object]] = [
    ({}, {"task": ["unhashable"]}),
    ({"task": TASK}, [["no id"], {}, {}]),
    (CALL, "no call"),
    (CALL | {"timelimit": 5}, [["no pair"], {}, {}]),
]


@on_its_own_store
@pytest.mark.parametrize("jobs", ["celery"], indirect=True)
async def test_malformed_messages(jobs: Jobs, broker: RabbitMQNode) -> None:
    """They are dropped, and the documents after them processed."""
    jobs.go()
    await jobs.publisher.send(["unknown"])  # declares the queue
    with Connection(broker.url) as connection:
        for headers, body in MALFORMED * 2:
            producer = Producer(connection, routing_key=QUEUE, serializer="json")
            producer.publish(body, headers=headers)
    async with jobs.service() as service:
        answer = await service.client.post("/documents", json={"text": "a"})
        await jobs.worker(overdue=3600)
        await jobs.stored_once([answer.json()["id"]])
