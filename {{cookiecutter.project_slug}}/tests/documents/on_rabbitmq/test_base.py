"""What publisher and worker do without a broker."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.documents.jobs.base import MAX_WAITING, Publisher
from tests.process import PYTHON, run


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


@pytest.mark.parametrize(
    ("name", "value"), [("BROKER_URL", "http://localhost"), ("DATABASE_URL", "mysql://localhost")]
)
async def test_bad_settings(tmp_path: Path, name: str, value: str) -> None:
    """What keeps a worker from starting is one line that names the variable."""
    code, _, stderr = await run(tmp_path, PYTHON, "-m", "app.worker", **{name: value})
    assert (code, len(stderr.splitlines())) == (1, 1)
    assert name in stderr
