"""What can be no job, or cannot be handed on, is among the dead letters and in nobody's way."""

from collections.abc import Callable

import pytest
from aio_pika import Message

from app.jobs.rabbitmq import Job, RabbitMQQueue

from .peek import Peek
from .plain import PlainQueue
from .workers import Workers


def unreadable(message: Message) -> Message:
    """Say something that is no JSON."""
    message.body = b"\xff"
    return message


def a_number(message: Message) -> Message:
    """Say something that is JSON, and no call."""
    message.body = b"5"
    return message


def oddly_compressed(message: Message) -> Message:
    """Say something in a way that nobody knows; Celery looks at that first."""
    message.headers["compression"] = "unheard-of"
    return a_number(message)


def of_another_tool(_: Message) -> Message:
    """Say it in a wire format of somebody else's."""
    return PlainQueue("amqp://nowhere/").encode(Job("d"))


def of_another_name(message: Message) -> Message:
    """Call something else, in the body or in a header."""
    message.body = message.body.replace(b"documents.process", b"documents.forget")
    if "task" in message.headers:
        message.headers["task"] = "documents.forget"
    return message


def without_a_document(message: Message) -> Message:
    """Call the task with nothing."""
    message.body = message.body.replace(b'"d"', b"")
    return message


STRAYS = [
    unreadable, a_number, oddly_compressed, of_another_tool, of_another_name, without_a_document
]  # fmt: skip


@pytest.mark.parametrize("stray", STRAYS)
async def test_what_is_no_job_is_a_dead_letter(
    stray: Callable[[Message], Message], jobs: RabbitMQQueue, workers: Workers, peek: Peek
) -> None:
    """As many as run at once are put aside as they are, once each, and a job after them is done."""
    strays = [stray(jobs.encode(Job("d"))) for _ in range(2)]
    for message in strays:
        await peek.put(message)
    await jobs.publish("good")
    worker = workers.start()
    await workers.until_noted("stored", "good")
    letters = [await peek.take(peek.dead) for _ in strays]
    assert sorted(letter.body for letter in letters) == sorted(one.body for one in strays)
    worker.terminate()
    assert await workers.ended(worker) == 0
    assert (await peek.ready(), await peek.ready(peek.dead)) == (0, 0)
    assert workers.noted("begun") == ["good"]


async def test_what_cannot_be_handed_on_is_a_dead_letter(
    jobs: RabbitMQQueue, workers: Workers, peek: Peek
) -> None:
    """A job whose failure ends in a defect is put aside as well; its place is free for others."""
    for document in ("odd-0", "odd-1", "good"):
        await jobs.publish(document)
    worker = workers.start()
    await workers.until_noted("stored", "good")
    for _ in range(2):
        await peek.take(peek.dead)
    worker.terminate()
    assert await workers.ended(worker) == 0
    assert (await peek.ready(), await peek.ready(peek.dead)) == (0, 0)
