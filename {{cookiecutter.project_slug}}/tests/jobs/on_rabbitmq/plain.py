"""The queue of jobs with the plainest wire format, for what holds whoever works on it."""

import json
from dataclasses import asdict

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractMessage

from app.jobs.rabbitmq import Job, RabbitMQQueue


class PlainQueue(RabbitMQQueue):
    """Publishes jobs as JSON."""

    def encode(self, job: Job) -> Message:
        """Return the job's fields."""
        body = json.dumps(asdict(job)).encode()
        return Message(body, delivery_mode=DeliveryMode.PERSISTENT, priority=job.priority)


def decode(message: AbstractMessage) -> Job:
    """Read what `encode` wrote."""
    return Job(**json.loads(message.body))
