"""One attempt at a job: how it ends, and when the next one is due.

Guarantees: an attempt is bounded in time; whatever the handler raises is a failed attempt, except
when the task itself is cancelled; the handler hears first that its job is given up.

Needs: `protocol`.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from .protocol import MAX_ATTEMPTS, JobHandler, RetryLater

ATTEMPT_TIMEOUT = 900.0
"""Seconds; RabbitMQ 3.8 to 4.2 take a job back after 30 minutes, whoever still works on it."""
GIVE_UP_TIMEOUT = 30.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failed attempt: twice as long each time, jittered. Seconds."""

    first: float = 5.0
    longest: float = 300.0
    random: Callable[[], float] = random.random

    def after(self, attempt: int, asked: float | None = None) -> float:
        """Return the wait after attempt 1, 2, …; never less than what was asked for."""
        doublings = min(attempt - 1, 1000)  # with a few more it would overflow
        full: float = min(self.longest, self.first * 2.0**doublings)
        wait = full * (1 + self.random()) / 2
        return wait if asked is None else max(wait, asked * (1 + self.random() / 10))


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt; the next one is due in `retry_in` seconds, or never (None)."""

    error: str
    retry_in: float | None


async def attempt(
    handler: JobHandler, document_id: str, number: int, *, within: float, backoff: Backoff
) -> Failure | None:
    """Do a job for the 1st, 2nd, … time, within so many seconds; None if it is done."""
    deadline = asyncio.timeout(within)
    try:
        async with deadline:
            await handler.process(document_id)
    except asyncio.CancelledError as cancelled:
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        error: BaseException = cancelled  # of something that the handler waited for
    except Exception as raised:  # noqa: BLE001 -- whatever a handler may raise
        error = TimeoutError(f"not done within {within:g} s") if deadline.expired() else raised
    else:
        return None
    return await _failed(handler, document_id, number, backoff, error)


async def _failed(
    handler: JobHandler, document_id: str, number: int, backoff: Backoff, error: BaseException
) -> Failure:
    log = logging.getLogger(__name__)
    said = f"{type(error).__name__}: {error}"
    if number < MAX_ATTEMPTS:
        wait = backoff.after(number, error.after if isinstance(error, RetryLater) else None)
        log.warning(
            "document %s: attempt %d failed, next in %.1f s: %s", document_id, number, wait, said
        )
        return Failure(said, wait)
    try:
        async with asyncio.timeout(GIVE_UP_TIMEOUT):
            await handler.give_up(document_id, said)
    except Exception:
        log.exception("document %s: giving up failed, to be tried again", document_id)
        return Failure(said, backoff.after(number))
    log.error("document %s: given up after attempt %d: %s", document_id, number, said)
    return Failure(said, None)
