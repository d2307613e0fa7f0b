"""A worker as an operator runs it, with a handler that does as the document's name says.

    python -m tests.jobs.on_rabbitmq.program celery URL QUEUE FOLDER DRAIN_TIMEOUT

It keeps what happens in a database in the folder. `bad-…` fails each time, `odd-…` with an error
that cannot be told, `held-…` waits until there is a file `go` in the folder, `stuck-…` waits for
ever; any other name is stored at once.
"""

import asyncio
import importlib
import logging
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.jobs.attempt import Backoff

DATABASE = "documents.db"
GO = "go"
SOON = Backoff(first=0.05, longest=0.2)


class UnspeakableError(Exception):
    """Whoever wants to tell it fails."""

    def __str__(self) -> str:
        raise NotImplementedError


class Documents:
    """Stores each document once, however often it is told to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = sqlite3.connect(folder / DATABASE, timeout=60, isolation_level=None)
        self._database.execute("PRAGMA synchronous = OFF")  # no disk is to hold a worker up

    async def process(self, document_id: str) -> None:
        """Note that it is begun, do as its name says, store it."""
        self._note("begun", document_id)
        if document_id.startswith("bad-"):
            raise ValueError(f"{document_id} is bad")
        if document_id.startswith("odd-"):
            raise UnspeakableError
        while document_id.startswith("held-") and not (self._folder / GO).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if document_id.startswith("stuck-"):
            try:
                await asyncio.Event().wait()
            finally:
                self._note("cancelled", document_id)
        self._note("stored", document_id)

    async def give_up(self, document_id: str, error: str) -> None:
        """Note the error."""
        self._note("failed", document_id, error)

    def close(self) -> None:
        """Note that the worker has ended in good order."""
        self._note("closed", str(os.getpid()))
        self._database.close()

    def _note(self, what: str, document_id: str, error: str = "") -> None:
        self._database.execute(
            "INSERT INTO notes SELECT ?1, ?2, ?3 WHERE ?1 != 'stored' OR NOT EXISTS "
            "(SELECT * FROM notes WHERE what = 'stored' AND document = ?2)",
            (what, document_id, error),
        )


def main(tool: str, url: str, queue: str, folder: str, drain_timeout: str) -> None:
    """Run a worker."""
    logging.basicConfig(level=logging.INFO)

    @asynccontextmanager
    async def open_handler() -> AsyncIterator[Documents]:
        documents = Documents(Path(folder))
        yield documents
        documents.close()

    run = getattr(importlib.import_module(f"app.jobs.{tool}_worker"), f"run_{tool}_worker")
    run(
        url,
        open_handler,
        concurrency=2,
        drain_timeout=float(drain_timeout),
        queue=queue,
        backoff=SOON,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
