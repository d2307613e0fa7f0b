"""What the publishers and workers of Celery and Taskiq have in common.

A message carries a document's id; the catalogue decides what there is to do. A message that is
lost or delivered twice does no harm: workers also claim what is overdue. Tasks are never retried.

Guarantees: `publish` returns at once and never raises; what the broker does not confirm in time is
dropped with a warning. Queues and messages survive a restart of the broker. A message is
acknowledged after its document was processed. Workers reconnect by themselves, and on SIGTERM
finish what they have received. A silent broker delays the end of a process by seconds only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from app.documents.pipeline import Pipeline

TASK = "documents.process"
MAX_WAITING = 10_000
"""Documents that may wait for the broker."""
DEADLINE = 3.0
"""Seconds for which the broker may be silent."""

OpenPipeline = Callable[[], AbstractAsyncContextManager[Pipeline]]
"""Opens what a worker needs."""

log = logging.getLogger(__name__)


class Publisher:
    """Sends the ids of documents in batches while it is open: `async with publisher as publish`.

    `send` raises if the broker does not confirm a batch in time.
    """

    def __init__(self, send: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        self.send = send
        self._waiting = asyncio.Queue[str](MAX_WAITING)
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Callable[[str], None]:
        await self._group.__aenter__()
        self._sender = self._group.create_task(self._send_all())
        return self._publish

    async def __aexit__(self, *_: object) -> None:
        self._sender.cancel()
        await self._group.__aexit__(None, None, None)

    def _publish(self, document_id: str) -> None:
        try:
            self._waiting.put_nowait(document_id)
        except asyncio.QueueFull:
            log.warning("document %s not announced: %d are waiting", document_id, MAX_WAITING)

    async def _send_all(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await self.send(batch)
            except Exception as error:  # noqa: BLE001 -- the broker may fail in any way
                log.warning("%d documents not announced: %r", len(batch), error)
