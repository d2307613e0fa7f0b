"""A worker under test: `python -m tests.documents.on_rabbitmq.program TOOL OVERDUE`.

It appends to the file `notes` in its directory which documents it is about to store, and which it
has stored; it stores nothing until there is a file `go`.
"""

import asyncio
import sys
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from app import worker
from app.documents.catalogue import Catalogue
from app.stores.base import Source
from app.wiring import documents

LEASE = 3.0
"""Seconds."""
GO = Path("go")
NOTES = Path("notes")


class Parts:
    """A reader in this process, and a store that only takes notes."""

    async def read(self, content: bytes, *, title: str, **_: object) -> tuple[str, list[str]]:
        """Return the whole document as one passage."""
        return title, [content.decode()]

    async def replace(self, source: Source, _: object) -> None:
        """Wait until it may be stored."""
        self._note("begun", source)
        while not await asyncio.to_thread(GO.exists):  # noqa: ASYNC110 -- of another process
            await asyncio.sleep(0.01)
        self._note("stored", source)

    def _note(self, what: str, source: Source) -> None:
        with NOTES.open("a") as notes:  # short lines of several processes do not mix
            notes.write(f"{what} {source.id}\n")


def main(tool: str, overdue: float) -> None:
    """Run the service's worker with these parts."""
    run = getattr(import_module(f"app.documents.jobs.{tool}"), f"run_{tool}_worker")
    parts: dict[str, Any] = {
        "build_store": lambda _: nullcontext(Parts()),
        "Reader": lambda **_: nullcontext(Parts()),
        "Catalogue": partial(Catalogue, lease=LEASE),
    }
    with patch.multiple(worker, RUN=run, OVERDUE=overdue), patch.multiple(documents, **parts):
        worker.main()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
