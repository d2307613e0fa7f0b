"""Workers as processes of their own, and what they note in the end."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import app.jobs

from . import program
from .peek import LONG

SOURCE = Path(app.jobs.__file__).parents[2]


@dataclass
class Workers:
    """Starts workers of a tool on a queue; they share a folder, and the database in it."""

    tool: str
    url: str
    queue: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        with closing(self._database()) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE notes (what TEXT, document TEXT, error TEXT)")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for log in self.folder.glob("*.log"):  # shown if the test fails
            sys.stdout.write(f"{log.name}:\n{log.read_text('utf-8', 'replace')}\n")

    def start(
        self, *, drain_timeout: float = LONG, folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one more."""
        log = self.folder / f"{len(self.processes)}.log"
        arguments = (self.tool, self.url, self.queue, str(folder or self.folder))
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 -- our own program
                [sys.executable, "-m", program.__name__, *arguments, str(drain_timeout)],
                cwd=SOURCE,
                env=os.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def go(self) -> None:
        """Let those documents be stored that are held."""
        (self.folder / program.GO).touch()

    def noted(self, what: str) -> list[str]:
        """Return the documents of which this was noted, in order."""
        with closing(self._database()) as database:
            rows = database.execute("SELECT document FROM notes WHERE what = ?", (what,))
            return [document for (document,) in rows]

    async def until_noted(self, what: str, *documents: str) -> None:
        """Wait until it is noted of all of these."""
        await _until(lambda: set(documents) <= set(self.noted(what)))

    async def ended(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end of a worker, and return its exit code."""
        await _until(lambda: process.poll() is not None)
        return process.wait()

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.folder / program.DATABASE, isolation_level=None, timeout=LONG)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():  # noqa: ASYNC110 -- other processes
            await asyncio.sleep(0.02)
