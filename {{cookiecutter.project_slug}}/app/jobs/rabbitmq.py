"""The queues of jobs on RabbitMQ, and publishing to them without ever blocking the event loop.

Four kinds of queue, all durable, all of persistent messages that carry a document's id at most:

    documents              what is to be done, higher priorities first
    documents.retry.MS     failed attempts, until MS milliseconds have passed; these queues
                           come as needed, and go when nothing was put into them for a while
    documents.retries      a note for each retry, as long as it waits: AMQP lists no queues, so
                           this one tells whether there are messages in those
    documents.dead         what was given up, and messages that are no jobs

They are classic queues: those have priorities on RabbitMQ 3.10 as on 4.x, where quorum queues
have none, two or all, by version. Nothing here is deprecated in 4.3 (no transient queue, no
global prefetch). Each wait has a queue of its own, as messages of different lifetimes in one queue
hold each other up; the jittered waits are rounded up to two digits, so that there are few.

Guarantees: what `publish` returned from is on the broker's disk (publisher confirms, and a message
that no queue takes is an error). It takes at most `deadline` seconds, connecting included,
whatever ails the broker: unreachable, silent, full. It connects on first use, and anew after any
failure. A message whose confirmation was lost may be published all the same: jobs bear that.

Needs: aio-pika, `protocol`.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from .protocol import HIGHEST_PRIORITY, JobQueueUnavailableError

QUEUE = "documents"
DEADLINE = 3.0
"""Seconds that publishing takes at most."""
RETRY_AFTER = 5.0
"""Seconds until a caller is to try again when the broker did not take a job."""
HEARTBEAT = 30
"""Seconds; a broker that is silent for about twice as long is taken for dead."""
LONGEST_WAIT = 24 * 3600.0
"""Seconds; a retry that was asked for later than this comes after this."""
_RETRY_QUEUE_LINGERS = 600_000
"""Milliseconds that a retry queue outlives the last message put into it."""
_NOTE_LINGERS = 1.0
"""Seconds that the note of a retry outlives its wait, so that it is never the first to go."""
_LONGEST_ERROR = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """A job on its way; `attempt` is 1 when it is new."""

    document_id: str
    priority: int = 0
    attempt: int = 1


def dead_letter_queue(queue: str) -> str:
    """Return the name of the queue for those jobs of another that were given up."""
    return f"{queue}.dead"


def queue_arguments(queue: str) -> dict[str, Any]:
    """Return what a queue of jobs is declared with; who declares it otherwise is refused."""
    return {
        "x-queue-type": "classic",
        "x-max-priority": HIGHEST_PRIORITY,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_letter_queue(queue),
    }


async def declare(channel: AbstractChannel, queue: str) -> AbstractQueue:
    """Return the queue of jobs, made if need be, with the one for those that were given up."""
    await _declare_plain(channel, dead_letter_queue(queue))
    return await channel.declare_queue(queue, durable=True, arguments=queue_arguments(queue))


async def declare_retry(channel: AbstractChannel, queue: str, wait: float) -> str:
    """Return the name of a queue whose messages go on to `queue` after so many seconds.

    One that is about to be put there is noted.
    """
    lifetime = _two_digits(min(wait, LONGEST_WAIT) * 1000)
    name = f"{queue}.retry.{lifetime}"
    arguments: dict[str, Any] = {
        "x-queue-type": "classic",
        "x-message-ttl": lifetime,
        "x-expires": lifetime + _RETRY_QUEUE_LINGERS,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
    }
    await channel.declare_queue(name, durable=True, arguments=arguments)
    notes = await _declare_plain(channel, f"{queue}.retries")
    note = aio_pika.Message(
        b"", delivery_mode=DeliveryMode.PERSISTENT, expiration=lifetime / 1000 + _NOTE_LINGERS
    )
    await channel.default_exchange.publish(note, notes.name, mandatory=True)
    return name


async def nothing_waits(channel: AbstractChannel, queue: str) -> bool:
    """Tell whether the broker has no job but those that workers have in hand."""
    notes, jobs = await _declare_plain(channel, f"{queue}.retries"), await declare(channel, queue)
    return not (notes.declaration_result.message_count or jobs.declaration_result.message_count)


async def _declare_plain(channel: AbstractChannel, name: str) -> AbstractQueue:
    arguments: dict[str, Any] = {"x-queue-type": "classic"}
    return await channel.declare_queue(name, durable=True, arguments=arguments)


def _two_digits(number: float) -> int:
    """Round up to a number that has zeros after its second digit."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(number / unit) * unit


_T = TypeVar("_T")


class RabbitMQQueue(ABC):
    """Publishes jobs in the wire format of the tool whose workers take them, while it is open."""

    def __init__(self, url: str, *, deadline: float = DEADLINE, queue: str = QUEUE) -> None:
        self._url = url
        self._deadline = deadline
        self._queue = queue
        self._opening = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._closings = asyncio.TaskGroup()

    @abstractmethod
    def encode(self, job: Job) -> aio_pika.Message:
        """Return the job as the worker's tool expects it, persistent and with its priority."""

    async def __aenter__(self) -> Self:
        await self._closings.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._drop()
        # The group is to see a cancellation, which may be its own, but not to wrap other errors.
        if not isinstance(exc, asyncio.CancelledError):
            exc_type = exc = traceback = None
        await self._closings.__aexit__(exc_type, exc, traceback)

    async def publish(self, document_id: str, *, priority: int = 0) -> None:
        """Hand a job in. JobQueueUnavailableError if the broker did not confirm it in time."""
        await self._send(self.encode(Job(document_id, priority)))

    async def publish_again(self, job: Job, *, wait: float) -> None:
        """Hand in a job that failed, for its next attempt in `wait` seconds or a little later."""
        job = Job(job.document_id, job.priority, job.attempt + 1)
        await self._send(self.encode(job), wait=wait)

    async def may_resume(self) -> bool:
        """Say whether no job waits for a worker or for its next attempt.

        What workers have in hand is not known: as many jobs as they work on at once, at most.
        """
        return await self._do(lambda channel: nothing_waits(channel, self._queue))

    async def bury(self, job: Job, error: str) -> None:
        """Put a job that was given up among the dead letters, as a new one and with the error."""
        message = self.encode(Job(job.document_id, job.priority))
        message.headers |= {"document": job.document_id, "error": error[:_LONGEST_ERROR]}
        await self._send(message, to=dead_letter_queue(self._queue))

    async def _send(
        self, message: aio_pika.Message, *, to: str | None = None, wait: float | None = None
    ) -> None:
        async def send(channel: AbstractChannel) -> None:
            name = to or self._queue
            if wait is not None:
                name = await declare_retry(channel, self._queue, wait)
            await channel.default_exchange.publish(message, name, mandatory=True)

        await self._do(send)

    async def _do(self, ask: Callable[[AbstractChannel], Awaitable[_T]]) -> _T:
        connection = None
        try:
            async with asyncio.timeout(self._deadline):
                connection, channel = await self._open()
                return await ask(channel)
        except CONNECTION_EXCEPTIONS as error:  # an asyncio.timeout that expires is one, too
            if connection is not None and connection is self._connection:
                self._drop()
            said = f"{type(error).__name__}: {error}" if str(error) else "no answer"
            what = f"the broker did not take the job within {self._deadline:g} s: {said}"
            raise JobQueueUnavailableError(what, retry_after=RETRY_AFTER) from error

    async def _open(self) -> tuple[AbstractConnection, AbstractChannel]:
        async with self._opening:
            if self._connection is None or self._channel is None or self._channel.is_closed:
                self._drop()
                self._connection = await aio_pika.connect(self._url, heartbeat=HEARTBEAT)
                try:
                    channel = await self._connection.channel(on_return_raises=True)
                    await declare(channel, self._queue)
                except BaseException:
                    self._drop()
                    raise
                self._channel = channel
            return self._connection, self._channel

    def _drop(self) -> None:
        """Let go of the connection, without waiting for a broker that may be silent."""
        if self._connection is not None:
            self._closings.create_task(self._close(self._connection))
        self._connection = self._channel = None

    async def _close(self, connection: AbstractConnection) -> None:
        with suppress(*CONNECTION_EXCEPTIONS):
            async with asyncio.timeout(self._deadline):
                await connection.close()
