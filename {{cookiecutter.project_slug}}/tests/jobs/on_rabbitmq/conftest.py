"""A real RabbitMQ and a real clock; a queue for each test, and workers of each tool there is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import pytest

import app.jobs
from app.jobs.rabbitmq import RabbitMQQueue
from tests.rabbitmq import broker, broker_node, broker_url  # noqa: F401 -- fixtures

from .peek import Peek
from .workers import Workers

TOOLS = sorted(
    path.stem.removesuffix("_worker") for path in Path(app.jobs.__file__).parent.glob("*_worker.py")
)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the event loop: here time is what the broker says it is."""
    return {"real": asyncio.new_event_loop}


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    """Return the name of the tool under test."""
    return str(request.param)


@pytest.fixture
async def peek(broker_url: str) -> AsyncIterator[Peek]:  # noqa: F811
    """Provide a look at the test's own queue, by its name."""
    peek = Peek(broker_url, f"test-{uuid4().hex}")
    yield peek
    await peek.clean_up()


@pytest.fixture
def publisher(tool: str) -> type[RabbitMQQueue]:
    """Return the tool's publisher."""
    publisher: type[RabbitMQQueue] = getattr(
        import_module(f"app.jobs.{tool}"), f"{tool.title()}Queue"
    )
    return publisher


@pytest.fixture
async def jobs(publisher: type[RabbitMQQueue], peek: Peek) -> AsyncIterator[RabbitMQQueue]:
    """Provide an open publisher on the test's own queue."""
    async with publisher(peek.url, queue=peek.queue) as jobs:
        yield jobs


@pytest.fixture
def workers(tool: str, peek: Peek, tmp_path: Path) -> Iterator[Workers]:
    """Provide the means to start workers; what still runs in the end is killed."""
    with Workers(tool, peek.url, peek.queue, tmp_path) as workers:
        yield workers
