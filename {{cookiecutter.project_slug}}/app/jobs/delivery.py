"""One delivery of a job by RabbitMQ: it is attempted and, if that fails, handed on.

Guarantees: when `deliver` has returned, the message may be acknowledged, as the job is done, or
waits on the broker for its next attempt, or is among the dead letters. If it raises, or is
cancelled, the message is to be given back.

Needs: aio-pika, `rabbitmq`, `attempt`, `protocol`.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from .attempt import ATTEMPT_TIMEOUT, Backoff, Failure, attempt
from .protocol import JobHandler, JobQueueUnavailableError
from .rabbitmq import RETRY_AFTER, Job, RabbitMQQueue

OpenHandler = Callable[[], AbstractAsyncContextManager[JobHandler]]
"""Opens what a worker process needs for its jobs, once."""
DRAIN_TIMEOUT = 30.0
"""Seconds that running jobs have to end after SIGTERM; what is left then is given back."""


async def deliver(
    handler: JobHandler,
    queue: RabbitMQQueue,
    job: Job,
    *,
    within: float = ATTEMPT_TIMEOUT,
    backoff: Backoff = Backoff(),  # noqa: B008 -- immutable
) -> None:
    """Attempt a job; keep it in hand until the broker has what is to follow."""
    failure = await attempt(handler, job.document_id, job.attempt, within=within, backoff=backoff)
    while failure is not None:
        try:
            await _hand_on(queue, job, failure)
        except JobQueueUnavailableError as error:
            logging.getLogger(__name__).warning("document %s: %s", job.document_id, error)
            await asyncio.sleep(RETRY_AFTER)
        else:
            failure = None


async def _hand_on(queue: RabbitMQQueue, job: Job, failure: Failure) -> None:
    if failure.retry_in is None:
        await queue.bury(job, failure.error)
    else:
        await queue.publish_again(job, wait=failure.retry_in)
