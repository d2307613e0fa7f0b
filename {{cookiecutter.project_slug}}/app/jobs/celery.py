"""Jobs for Celery workers: published by aio-pika, in Celery's message protocol 2.

Celery's own publishing is synchronous and would need threads, of which a silent broker would hold
one each. The protocol is documented, stable and small, and Celery itself is only needed where
the worker is: see `celery_worker`.

    async with CeleryQueue("amqp://localhost/") as jobs:
        await jobs.publish(document_id)

The protocol: https://docs.celeryq.dev/en/stable/internals/protocol.html

Needs: aio-pika, `rabbitmq`, `protocol`.
"""

import json
from uuid import uuid4

from aio_pika import DeliveryMode, Message

from .rabbitmq import Job, RabbitMQQueue

TASK = "documents.process"
"""The name under which workers know the job."""


class CeleryQueue(RabbitMQQueue):
    """Publishes jobs for Celery workers."""

    def encode(self, job: Job) -> Message:
        """Return a call of the task; Celery counts retries, the first attempt is none."""
        task_id = uuid4().hex
        arguments, keywords, embedded = [job.document_id], dict[str, str](), dict[str, str]()
        return Message(
            json.dumps([arguments, keywords, embedded]).encode(),
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=task_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=job.priority,
            headers={
                "lang": "py",
                "task": TASK,
                "id": task_id,
                "root_id": task_id,
                "retries": job.attempt - 1,
                "argsrepr": repr(tuple(arguments)),
            },
        )


def is_job(headers: object, payload: object) -> bool:
    """Tell whether a message is a job as it is published here, or as Celery itself calls it."""
    match headers, payload:
        case {"task": name, "id": str(), "retries": int()}, [[str()], dict(keywords), dict()]:
            return name == TASK and not keywords
    return False
