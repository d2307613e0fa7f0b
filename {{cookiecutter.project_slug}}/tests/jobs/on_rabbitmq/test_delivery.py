"""A delivered job stays in hand until it is done, or the broker has what is to follow."""

import asyncio

import pytest

from app.jobs.attempt import Backoff
from app.jobs.delivery import deliver
from app.jobs.protocol import MAX_ATTEMPTS, JobQueueUnavailableError
from app.jobs.rabbitmq import RETRY_AFTER, Job
from tests.concurrency.virtual_time import VirtualTimeLoop
from tests.jobs.handlers import FakeHandler, fails, takes

from .plain import PlainQueue

EXACT = Backoff(first=5, longest=60, random=lambda: 1.0)


class FakeQueue(PlainQueue):
    """Notes what is handed on, once the broker is no longer away."""

    def __init__(self, *, away: int = 0) -> None:
        super().__init__("amqp://nowhere/")
        self.away = away
        self.again: list[tuple[Job, float]] = []
        self.buried: list[tuple[Job, str]] = []

    async def publish_again(self, job: Job, *, wait: float) -> None:
        """Take a job for its next attempt."""
        self._refuse()
        self.again.append((job, wait))

    async def bury(self, job: Job, error: str) -> None:
        """Take a dead letter."""
        self._refuse()
        self.buried.append((job, error))

    def _refuse(self) -> None:
        if self.away:
            self.away -= 1
            raise JobQueueUnavailableError("away")


def run(handler: FakeHandler, queue: FakeQueue, job: Job, *, cancel_after: float = 1e9) -> float:
    """Deliver a job on a virtual clock; return how long that took."""

    async def run() -> float:
        delivery = asyncio.create_task(deliver(handler, queue, job, within=10, backoff=EXACT))
        await asyncio.wait([delivery], timeout=cancel_after)
        delivery.cancel()
        await delivery
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


def test_a_job_that_is_done_is_not_handed_on() -> None:
    """Its message can be acknowledged."""
    queue = FakeQueue()
    run(FakeHandler(takes(1)), queue, Job("d"))
    assert (queue.again, queue.buried) == ([], [])


def test_a_failed_job_is_handed_on_for_its_next_attempt() -> None:
    """It waits on the broker, not in the worker."""
    queue = FakeQueue()
    assert run(FakeHandler(fails(ValueError("broken"))), queue, Job("d", 3)) == 0
    assert queue.again == [(Job("d", 3), 5)]


def test_a_job_that_is_given_up_is_buried_with_its_error() -> None:
    """After the last attempt it is among the dead letters."""
    queue = FakeQueue()
    run(FakeHandler(fails(ValueError("broken"))), queue, Job("d", 0, MAX_ATTEMPTS))
    assert queue.buried == [(Job("d", 0, MAX_ATTEMPTS), "ValueError: broken")]


def test_a_failed_job_stays_in_hand_while_the_broker_is_away() -> None:
    """It is offered again until the broker takes it, and not attempted again meanwhile."""
    handler, queue = FakeHandler(fails(ValueError("broken"))), FakeQueue(away=3)
    assert run(handler, queue, Job("d")) == pytest.approx(3 * RETRY_AFTER)
    assert (len(queue.again), len(handler.begun)) == (1, 1)


@pytest.mark.parametrize("away", [0, 1000])
def test_a_cancelled_delivery_hands_nothing_on(away: int) -> None:
    """Whether it runs or waits for the broker: it raises, so that the message is given back."""
    does = fails(ValueError("broken")) if away else takes(9)
    queue = FakeQueue(away=away)
    with pytest.raises(asyncio.CancelledError):
        run(FakeHandler(does), queue, Job("d"), cancel_after=7)
    assert (queue.again, queue.buried) == ([], [])
