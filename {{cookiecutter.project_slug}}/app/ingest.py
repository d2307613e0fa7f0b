"""Load folders, files and URLs into the store: `python -m app.ingest PATH_OR_URL…`.

The work is done here, in the process of the command, whoever else works on documents. It can be
stopped at any time and called again: what is in the store unchanged is passed over. Exits with 0
where everything is in the store, else with 1 and a line for each that is not.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.documents.submission import Submission
from app.jobs.attempt import ATTEMPT_TIMEOUT, Backoff, attempt
from app.settings import Settings, load_settings
from app.stores.protocol import StoreError
from app.telemetry.logs import configure_logging
from app.workshop import Workshop, workshop_alone

ENDINGS = {
    ".htm", ".html", ".markdown", ".md", ".mdx", ".pdf", ".rst", ".text", ".txt", ".xhtml",
}  # fmt: skip
"""Of the files that are taken from a folder; a file that is named is taken whatever it is."""
BACKOFF = Backoff(first=1.0, longest=30.0)
LONGEST_WAIT = 60.0
"""Seconds, whatever anybody asks for: somebody is waiting at the shell."""

Item = Path | str
"""A file, or a URL."""


class Loading:
    """One run of the command: what is to be loaded, and what became of it."""

    def __init__(self, items: Sequence[Item], workshop: Workshop, progress: Progress) -> None:
        self._left = iter(items)
        self._workshop = workshop
        self._progress = progress
        self._bar = progress.add_task("Loading", total=len(items))
        self.counts = Counter[str]()
        self.failures: list[str] = []

    async def run(self, at_once: int) -> None:
        """Load everything, so many at once; a failure of the store itself ends it."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(self._load_some())

    async def _load_some(self) -> None:
        for item in self._left:
            try:
                outcome = await self._load(item)
            except OSError as error:
                outcome = f"{error.strerror or error}"
            if outcome in {"loaded", "unchanged"}:
                self.counts[outcome] += 1
            else:
                self.counts["failed"] += 1
                self.failures.append(f"{item}: {outcome}")
            self._progress.advance(self._bar)

    async def _load(self, item: Item) -> str:
        """Load one; say what became of it, or what is wrong with it."""
        store = self._workshop.store
        submission = await asyncio.to_thread(read, item)
        document = submission.document
        known = await store.document(document.id)
        if known and known.revision == document.revision and known.state == "ready":
            return "unchanged"
        await store.submit(document, submission.content.pack())
        await self._work(document.id)
        done = await store.document(document.id)
        return "taken out meanwhile" if done is None else (done.error or "loaded")

    async def _work(self, document_id: str) -> None:
        for number in count(1):
            failure = await attempt(
                self._workshop.work, document_id, number, within=ATTEMPT_TIMEOUT, backoff=BACKOFF
            )
            if failure is None or failure.retry_in is None:
                return
            await asyncio.sleep(min(failure.retry_in, LONGEST_WAIT))


def read(item: Item) -> Submission:
    """Read a file; a URL is fetched later."""
    if isinstance(item, str):
        return Submission.page(item)
    return Submission.path(item, item.read_bytes())


def expand(names: Sequence[str]) -> Iterator[Item]:
    """List the files and URLs that are meant; FileNotFoundError for what is not there."""
    for name in names:
        path = Path(name)
        if name.startswith(("http://", "https://")):
            yield name
        elif path.is_dir():
            yield from files_in(path)
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(name)


def files_in(folder: Path) -> Iterator[Path]:
    """Find the documents in a folder and those below it, but for what is hidden."""
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS:
                yield Path(directory, name)


async def load(items: Sequence[Item], settings: Settings, console: Console) -> Loading:
    """Open what is needed, and load."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    async with workshop_alone(settings) as workshop:
        with Progress(*columns, console=console) as progress:
            loading = Loading(items, workshop, progress)
            # One more than can be read at once: while one is embedded another is read.
            await loading.run(settings.ingestion_concurrency + 1)
            return loading


def main() -> None:
    """Be the command."""
    parser = argparse.ArgumentParser(prog="python -m app.ingest", description="Load documents.")
    parser.add_argument("names", nargs="+", metavar="PATH_OR_URL", help="a folder, file or URL")
    try:
        items = list(expand(parser.parse_args().names))
    except FileNotFoundError as error:
        parser.error(f"there is no file or folder {error}")
    settings = load_settings()
    configure_logging("ERROR")
    console = Console()
    try:
        loading = asyncio.run(load(items, settings, console))
    except* StoreError as errors:
        sys.exit(f"The store does not take documents: {errors.exceptions[0]}")
    except* KeyboardInterrupt:
        sys.exit("Stopped. Call it again to go on.")
    for failure in loading.failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    counts = (f"{loading.counts[name]} {name}" for name in ("loaded", "unchanged", "failed"))
    console.print(", ".join(counts))
    sys.exit(bool(loading.failures))


if __name__ == "__main__":
    main()
