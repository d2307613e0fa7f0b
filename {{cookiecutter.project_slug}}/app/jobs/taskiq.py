"""Jobs for Taskiq workers: published by aio-pika, in Taskiq's JSON.

    async with TaskiqQueue("amqp://localhost/") as jobs:
        await jobs.publish(document_id)

Guarantees: what is read as a job is what `encode` writes, without exception: no label of another
sender's tells the worker when to acknowledge it, or what time it has.

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
        return Message(
            _call(job, uuid4().hex).model_dump_json().encode(),
            content_type="application/json",
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=job.priority,
        )


def decode(body: bytes) -> Job:
    """Return the job that a message is; ValueError if it is none."""
    call = TaskiqMessage.model_validate_json(body)
    match call.args, call.labels:
        case [str(document_id)], {"priority": int(priority), "attempt": int(attempt)}:
            job = Job(document_id, priority, attempt)
            if call == _call(job, call.task_id):
                return job
    raise ValueError(f"not a call of {TASK} as it is published here")


def _call(job: Job, task_id: str) -> TaskiqMessage:
    return TaskiqMessage(
        task_id=task_id,
        task_name=TASK,
        labels={"priority": job.priority, "attempt": job.attempt},
        args=[job.document_id],
        kwargs={},
    )
