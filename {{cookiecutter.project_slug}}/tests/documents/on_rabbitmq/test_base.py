"""What publisher and worker do without a broker."""

import asyncio
from collections.abc import Sequence

import pytest

from app.documents.jobs.base import MAX_WAITING, Publisher


async def test_batches(caplog: pytest.LogCaptureFixture) -> None:
    """What waits is sent together; a failure is a warning, and costs no later document."""
    batches = asyncio.Queue[Sequence[str]]()

    async def send(document_ids: Sequence[str]) -> None:
        batches.put_nowait(document_ids)
        if "b" in document_ids:
            raise OSError("away")

    async with Publisher(send) as publish, asyncio.timeout(10):
        for batch in ("a", "bc", "d"):
            for document_id in batch:
                publish(document_id)
            assert await batches.get() == list(batch)
    assert caplog.messages == ["2 documents not announced: OSError('away')"]


async def test_full_queue(caplog: pytest.LogCaptureFixture) -> None:
    """With too many waiting, a document is dropped with a warning."""

    async def send(_: Sequence[str]) -> None:
        raise AssertionError

    async with Publisher(send) as publish:
        for number in range(MAX_WAITING + 1):
            publish(f"{number}")
    assert caplog.messages == ["document 10000 not announced: 10000 are waiting"]
