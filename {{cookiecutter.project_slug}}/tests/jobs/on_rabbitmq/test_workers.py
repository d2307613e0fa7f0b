"""Every tool's workers do each job, whoever dies or restarts meanwhile."""

import asyncio
import signal
from pathlib import Path

import pytest

from app.jobs.protocol import MAX_ATTEMPTS, JobQueueUnavailableError
from app.jobs.rabbitmq import RabbitMQQueue
from tests.rabbitmq import RabbitMQNode

from .peek import Peek
from .workers import Workers


async def publish(jobs: RabbitMQQueue, *documents: str, priority: int = 0) -> None:
    """Hand in some jobs, in order."""
    for document in documents:
        await jobs.publish(document, priority=priority)


async def test_a_worker_that_is_killed_loses_nothing(
    jobs: RabbitMQQueue, workers: Workers, peek: Peek
) -> None:
    """Killed in the middle of a batch, it leaves all that it has not stored to the next one."""
    before = [f"before-{number}" for number in range(10)]
    held = ["held-0", "held-1"]
    after = [f"after-{number}" for number in range(10)]
    await publish(jobs, *before, *held, *after)
    killed = workers.start()
    await workers.until_noted("begun", *held)
    killed.kill()
    assert sorted(workers.noted("stored")) == sorted(before)
    workers.go()
    other = workers.start()
    await workers.until_noted("stored", *held, *after)
    other.terminate()
    assert await workers.ended(other) == 0
    assert sorted(workers.noted("stored")) == sorted([*before, *held, *after])
    assert [workers.noted("begun").count(document) for document in held] == [2, 2]
    assert (await peek.ready(), await peek.ready(peek.dead)) == (0, 0)


async def test_the_broker_may_die_and_come_back(
    jobs: RabbitMQQueue, workers: Workers, peek: Peek, broker_node: RabbitMQNode
) -> None:
    """It has what was published; publishing and consuming go on; who starts meanwhile waits."""
    await publish(jobs, "early", "held-0", "held-1")
    workers.start()
    await workers.until_noted("stored", "early")
    await workers.until_noted("begun", "held-0", "held-1")
    await publish(jobs, "waits")
    await asyncio.to_thread(broker_node.kill)
    with pytest.raises(JobQueueUnavailableError):
        await jobs.publish("refused")
    workers.start()
    await asyncio.to_thread(broker_node.start)
    await publish(jobs, "late")
    workers.go()
    await workers.until_noted("stored", "early", "held-0", "held-1", "waits", "late")
    assert len(workers.noted("stored")) == 5
    await peek.consumers(2)


async def test_a_job_that_keeps_failing_ends_among_the_dead_letters(
    jobs: RabbitMQQueue, workers: Workers, peek: Peek
) -> None:
    """It is tried as often as may be, given up, and kept with its error; others go on."""
    await publish(jobs, "bad-0", priority=3)
    await publish(jobs, "good")
    workers.start()
    letter = await peek.take(peek.dead)
    assert letter.headers["document"] == "bad-0"
    assert letter.headers["error"] == "ValueError: bad-0 is bad"
    assert letter.priority == 3
    assert workers.noted("begun").count("bad-0") == MAX_ATTEMPTS
    assert workers.noted("failed") == ["bad-0"]
    await workers.until_noted("stored", "good")


async def test_higher_priorities_come_first(jobs: RabbitMQQueue, workers: Workers) -> None:
    """What is urgent overtakes what was published before it."""
    await publish(jobs, "low-0", "low-1", "low-2")
    await publish(jobs, "high-0", "high-1", priority=5)
    workers.start()
    await workers.until_noted("stored", "low-0", "low-1", "low-2", "high-0", "high-1")
    assert set(workers.noted("begun")[:2]) == {"high-0", "high-1"}


async def test_sigterm_lets_running_jobs_end(
    jobs: RabbitMQQueue, workers: Workers, peek: Peek
) -> None:
    """It takes no more than runs; told to end it takes nothing more, and ends what it has."""
    await publish(jobs, "held-0", "held-1", "waits")
    worker = workers.start()
    await workers.until_noted("begun", "held-0", "held-1")
    assert await peek.ready() == 1
    worker.terminate()
    await peek.consumers(0)
    workers.go()
    assert await workers.ended(worker) == 0
    assert sorted(workers.noted("stored")) == ["held-0", "held-1"]
    assert len(workers.noted("closed")) == 1
    assert await peek.ready() == 1


async def test_what_does_not_end_in_time_is_given_back(
    jobs: RabbitMQQueue, workers: Workers, peek: Peek
) -> None:
    """After the drain timeout it is cancelled, with the handler open, and waits on the broker."""
    await publish(jobs, "stuck-0")
    worker = workers.start(drain_timeout=0.2)
    await workers.until_noted("begun", "stuck-0")
    worker.send_signal(signal.SIGINT)
    assert await workers.ended(worker) == 0
    assert workers.noted("cancelled") == ["stuck-0"]
    assert len(workers.noted("closed")) == 1
    assert await peek.ready() == 1


async def test_a_handler_that_cannot_open_ends_the_worker(
    jobs: RabbitMQQueue, workers: Workers, peek: Peek, tmp_path: Path
) -> None:
    """Its error is the worker's, and no job is taken."""
    await publish(jobs, "waits")
    assert await workers.ended(workers.start(folder=tmp_path / "missing")) == 1
    assert "unable to open database file" in (tmp_path / "0.log").read_text("utf-8")
    assert await peek.ready() == 1
