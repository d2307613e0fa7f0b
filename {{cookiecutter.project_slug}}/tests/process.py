"""The service as a process of its own, as an operator runs it.

async with start_service(directory, WORKERS="2") as process:
await process.client.get("/readyz")
process.signal(signal.SIGTERM)
assert await process.ended() == 0
"""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

import app
from tests.service import STORE, http_client

SOURCE = Path(app.__file__).parent.parent
PYTHON = sys.executable
SERVE = (PYTHON, "-m", "app")
START_TIMEOUT = 60.0
"""Seconds; a busy machine may need a while for the imports."""
STOP_TIMEOUT = 60.0


@dataclass
class ServiceProcess:
    """A process that serves, its client, and what it logged so far."""

    process: Process
    client: httpx.AsyncClient
    log: list[str] = field(default_factory=list)

    def signal(self, number: int) -> None:
        """Send a signal to the process alone, as an orchestrator does."""
        self.process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its children, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, number)

    async def ready(self) -> httpx.Response:
        """Ask whether new work is welcome, on a connection of its own."""
        return await self.client.get("/readyz", headers={"Connection": "close"})

    async def logs(self, text: str) -> None:
        """Wait until a line with this text is logged."""
        assert self.process.stderr is not None
        async with asyncio.timeout(STOP_TIMEOUT):
            while text not in self.log[-1]:
                self.log.append((await self.process.stderr.readline()).decode().rstrip())

    async def ended(self) -> int:
        """Wait for the end; return the exit code."""
        async with asyncio.timeout(STOP_TIMEOUT):
            _, stderr = await self.process.communicate()
        self.log += stderr.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode


async def start(directory: Path, *command: str, **environment: str) -> Process:
    """Start a program in a directory: with the service's source on its path, on any free port."""
    store = STORE.format(folder=directory)
    own = {"PYTHONPATH": str(SOURCE), "VECTOR_STORE_URL": store, "PORT": "0"}
    return await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env={**os.environ, **own, **environment},
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )


async def run(directory: Path, *command: str, **environment: str) -> tuple[int, str, str]:
    """Run a program to its end; return exit code, stdout and stderr."""
    process = await start(directory, *command, **environment)
    async with asyncio.timeout(START_TIMEOUT):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stdout.decode(), stderr.decode()


@asynccontextmanager
async def start_service(
    directory: Path, *command: str, **environment: Any
) -> AsyncIterator[ServiceProcess]:
    """Start the service on a free port and wait until it serves; end it on leaving."""
    process = await start(directory, *(command or SERVE), **environment)
    try:
        log: list[str] = []
        async with asyncio.timeout(START_TIMEOUT):
            port = await _port_of(process, log, workers=int(environment.get("WORKERS", 1)))
        async with http_client(port) as client:
            yield ServiceProcess(process, client, log)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


async def _port_of(process: Process, log: list[str], *, workers: int) -> int:
    """Read the log until the port is known and every worker serves."""
    port = 0
    assert process.stderr is not None
    async for line in process.stderr:
        log.append(line.decode().rstrip())
        if found := re.search(r"running on http://[\d.]+:(\d+)", log[-1]):
            port = int(found[1])
        workers -= "startup complete" in log[-1]
        if port and not workers:
            return port
    raise AssertionError(f"it did not start: {log}")
