"""Load folders, files and URLs into the store: `python -m app.ingest PATH_OR_URL…`.

The work is done here, in the process of the command, whoever else works on documents. It can be
stopped at any time and called again: what is in the store unchanged is passed over. Exits with 0
where everything is in the store, else with 1 and a line for each file and folder that is not.
What is named and is not there ends it with 2, before anything is loaded.
"""

import argparse
import asyncio
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
HELP = "a file, a URL, or a folder: but for links to folders, and what is hidden, all that is below"

Item = Path | str
"""A file, or a URL."""


class Loading:
    """One run of the command: what is to be loaded, and what became of it."""

    def __init__(
        self,
        items: Sequence[Item],
        workshop: Workshop,
        progress: Progress,
        *,
        max_bytes: int,
        backoff: Backoff,
    ) -> None:
        self._left = iter(items)
        self._workshop = workshop
        self._progress = progress
        self._max_bytes = max_bytes
        self._backoff = backoff
        self._bar = progress.add_task("Loading", total=len(items))
        self.counts = Counter[str]()
        self.failures: list[str] = []

    async def run(self, at_once: int) -> None:
        """Load everything, so many at once; a failure of the store itself ends it."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(self._load_some())

    def fail(self, name: object, why: object) -> None:
        """Note what is not in the store."""
        self.counts["failed"] += 1
        self.failures.append(f"{name}: {why}")

    async def _load_some(self) -> None:
        for item in self._left:
            try:
                outcome = await self._load(item)
            except OSError as error:
                outcome = f"{error.strerror or error}"
            if outcome in {"loaded", "unchanged"}:
                self.counts[outcome] += 1
            else:
                self.fail(item, outcome)
            self._progress.advance(self._bar)

    async def _load(self, item: Item) -> str:
        """Load one; say what became of it, or what is wrong with it."""
        store = self._workshop.store
        submission = await asyncio.to_thread(read, item, self._max_bytes)
        document = submission.document
        known = await store.document(document.id)
        if known and known.revision == document.revision and known.state == "ready":
            return "unchanged"
        await store.submit(document, submission.content.pack())
        error = await self._work(document.id)
        done = await store.document(document.id)
        if done is None:
            return "taken out meanwhile"
        return "loaded" if done.state == "ready" else done.error or error or "changed meanwhile"

    async def _work(self, document_id: str) -> str | None:
        """Try until it is done, or given up: then return the last error."""
        trying = partial(
            attempt,
            self._workshop.work,
            document_id,
            within=ATTEMPT_TIMEOUT,
            backoff=self._backoff,
        )
        number = 1
        while (failure := await trying(number)) and failure.retry_in is not None:
            await asyncio.sleep(min(failure.retry_in, LONGEST_WAIT))
            number += 1
        return failure.error if failure else None


def read(item: Item, max_bytes: int) -> Submission:
    """Read a file; a URL is fetched later. OSError for one that is too large, or no file."""
    if isinstance(item, str):
        return Submission.page(item)
    status = item.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file")  # some never end, some never begin
    if status.st_size > max_bytes:
        raise OSError(f"it is over MAX_BODY_BYTES={max_bytes}")
    return Submission.path(item, item.read_bytes())


def expand(names: Sequence[str], on_error: Callable[[OSError], object]) -> Iterator[Item]:
    """List the files and URLs that are meant; OSError for a name that nothing can be read from.

    `on_error` hears of each folder below them that cannot be read; the rest is listed all the same.
    """
    for name in names:
        if name.startswith(("http://", "https://")):
            yield name
        elif stat.S_ISDIR(os.stat(name).st_mode):  # noqa: PTH116 -- the Path of "" is a folder
            yield from files_in(Path(name), on_error)
        else:
            yield Path(name)


def files_in(folder: Path, on_error: Callable[[OSError], object]) -> Iterator[Path]:
    """Find the documents in a folder and those below it, but for what is hidden.

    A link to a folder is passed over: it may lead back to where it is.
    """
    for directory, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in ENDINGS:
                yield Path(directory, name)


async def load(
    items: Sequence[Item], settings: Settings, console: Console, backoff: Backoff = BACKOFF
) -> Loading:
    """Open what is needed, and load."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    async with workshop_alone(settings) as workshop:
        with Progress(*columns, console=console) as progress:
            most = settings.max_body_bytes
            loading = Loading(items, workshop, progress, max_bytes=most, backoff=backoff)
            # One more than can be read at once: while one is embedded another is read.
            await loading.run(settings.ingestion_concurrency + 1)
            return loading


def main() -> None:
    """Be the command."""
    parser = argparse.ArgumentParser(prog="python -m app.ingest", description="Load documents.")
    parser.add_argument("names", nargs="+", metavar="PATH_OR_URL", help=HELP)
    unread: list[OSError] = []
    try:
        items = list(expand(parser.parse_args().names, unread.append))
    except OSError as error:
        parser.error(f"{error.filename!r}: {error.strerror}")
    settings = load_settings()
    configure_logging("ERROR")
    console = Console()
    try:
        loading = asyncio.run(load(items, settings, console))
    except* StoreError as errors:
        sys.exit(f"The store does not take documents: {errors.exceptions[0]}")
    except* KeyboardInterrupt:
        sys.exit("Stopped. Call it again to go on.")
    for folder in unread:
        loading.fail(folder.filename, folder.strerror)
    for failure in loading.failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    counts = (f"{loading.counts[name]} {name}" for name in ("loaded", "unchanged", "failed"))
    console.print(", ".join(counts))
    sys.exit(bool(loading.failures))


if __name__ == "__main__":
    main()
