"""The service with a job queue on RabbitMQ, and its workers, each a process of its own."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from app.documents.pipeline import Pipeline
from tests.documents.on_rabbitmq.node import RabbitMQNode, broker
from tests.process import PYTHON, SOURCE
from tests.service import RunningService, serve

from . import program

__all__ = ["broker"]

TOOLS = [name for name in ("celery", "taskiq") if find_spec(f"app.documents.jobs.{name}")]
LONG = 120.0
"""Seconds until a wait fails."""


class Jobs:
    """A service that publishes with a tool, and the tool's workers."""

    def __init__(self, tool: str, broker_url: str, catalogue_url: str, folder: Path) -> None:
        module = import_module(f"app.documents.jobs.{tool}")
        self.publisher = getattr(module, f"{tool}_publisher")(broker_url)
        self.stack = AsyncExitStack()
        self.tool = tool
        self._folder = folder
        self._urls = {"database_url": catalogue_url, "broker_url": broker_url}

    @asynccontextmanager
    async def service(self) -> AsyncIterator[RunningService]:
        """Run the service; un-rendered, it would process the documents itself."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Pipeline, "started", lambda _: self.publisher)
            async with serve(**self._urls) as service:
                yield service

    async def worker(self, *, overdue: float) -> Process:
        """Start a worker that claims documents without a message when they are overdue."""
        with (self._folder / "log").open("ab") as log:
            worker = await asyncio.create_subprocess_exec(
                *(PYTHON, "-m", program.__name__, self.tool, str(overdue)),
                cwd=self._folder,
                env={"PYTHONPATH": str(SOURCE), **os.environ}
                | {name.upper(): url for name, url in self._urls.items()},
                stdout=log,
                stderr=STDOUT,
            )
        self.stack.push_async_callback(self.end, worker, signal.SIGKILL)
        return worker

    async def end(self, worker: Process, number: int = signal.SIGTERM) -> int:
        """Send a signal to a worker; return its exit code."""
        if worker.returncode is None:
            worker.send_signal(number)
        async with asyncio.timeout(LONG):
            return await worker.wait()

    def go(self) -> None:
        """Let the workers store documents."""
        (self._folder / program.GO).touch()

    def read(self, name: str) -> str:
        """Return a file of the workers', "log" or "notes"."""
        file = self._folder / name
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def noted(self, what: str) -> list[str]:
        """Return the documents that the workers have "begun" to store, or "stored"."""
        lines = self.read("notes").splitlines()
        return sorted(line.split()[1] for line in lines if line.startswith(what))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what other processes do."""
        async with asyncio.timeout(LONG):
            while not holds():  # noqa: ASYNC110 -- no event is set for it
                await asyncio.sleep(0.02)

    async def stored_once(self, ids: list[str]) -> None:
        """Wait until the documents are stored; AssertionError if one was stored twice."""
        await self.until(lambda: set(ids) <= set(self.noted("stored")))
        assert self.noted("stored") == sorted(ids)


@pytest.fixture(params=TOOLS)
async def jobs(
    request: pytest.FixtureRequest, broker: RabbitMQNode, catalogue_url: str, tmp_path: Path
) -> AsyncIterator[Jobs]:
    """Provide a service without documents; messages of earlier tests lead to nothing."""
    jobs = Jobs(request.param, broker.url, catalogue_url, tmp_path)
    async with jobs.stack:
        yield jobs
    sys.stdout.write(jobs.read("log"))  # shown if the test fails
