"""What a queue of jobs promises, whoever works on it.

A job is the id of a document. It may be delivered more than once, and
two deliveries may run side by side: its handler must bear that. It is delivered until the
handler has returned, or has failed MAX_ATTEMPTS times.

Needs the standard library only.
"""

from typing import Protocol

MAX_ATTEMPTS = 5
HIGHEST_PRIORITY = 9


class JobQueueError(Exception):
    """The job was not taken on; `retry_after` is in seconds."""

    type = "job_queue_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class JobQueueUnavailableError(JobQueueError):
    """The broker cannot be reached or did not confirm in time, or too many jobs wait already."""

    type = "job_queue_unavailable"


class RetryLater(Exception):  # noqa: N818 -- an instruction
    """Raised by a handler: it may go better in `after` seconds; None: the queue's own backoff."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class JobHandler(Protocol):
    """The work itself."""

    async def process(self, document_id: str) -> None:
        """Do the job. Any exception is a failed attempt; RetryLater says when to try again."""
        ...

    async def give_up(self, document_id: str, error: str) -> None:
        """Note that the last attempt has failed."""
        ...


class JobQueue(Protocol):
    """Where jobs are handed in."""

    async def publish(self, document_id: str, *, priority: int = 0) -> None:
        """Hand a job in; on return it is safe. `priority` goes up to HIGHEST_PRIORITY.

        JobQueueUnavailableError if that cannot be said within the queue's deadline.
        """
        ...

    async def may_resume(self) -> bool:
        """Say whether all that is unfinished may be published: no job of it waits, or it is merged.

        JobQueueUnavailableError if that cannot be said within the queue's deadline.
        """
        ...
