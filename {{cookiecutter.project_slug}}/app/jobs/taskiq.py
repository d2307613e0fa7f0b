"""Jobs for Taskiq workers: published by aio-pika, in Taskiq's JSON.

    async with TaskiqQueue("amqp://localhost/") as jobs:
        await jobs.publish(document_id)

The workers: see `taskiq_worker`.

Needs: taskiq, aio-pika, `rabbitmq`, `protocol`.
"""

from uuid import uuid4

from aio_pika import DeliveryMode, Message
from taskiq.message import TaskiqMessage

from .rabbitmq import Job, RabbitMQQueue

TASK = "documents.process"
"""The name under which workers know the job."""


class TaskiqQueue(RabbitMQQueue):
    """Publishes jobs for Taskiq workers."""

    def encode(self, job: Job) -> Message:
        """Return a call of the task; its labels carry what a retry needs to know."""
        call = TaskiqMessage(
            task_id=uuid4().hex,
            task_name=TASK,
            labels={"priority": job.priority, "attempt": job.attempt},
            args=[job.document_id],
            kwargs={},
        )
        return Message(
            call.model_dump_json().encode(),
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=job.priority,
        )
