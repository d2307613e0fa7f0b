"""Load folders, files and URLs into the store: `python -m app.ingest PATH_OR_URL…`.

The command processes the documents itself, also beside a running service. It can be stopped at any
time and run again: documents that are in the store unchanged are skipped. The exit status is 0 if
everything is in the store, 1 if something is not, with a line for each, and 2 if a name does not
exist.
"""

import argparse
import asyncio
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.documents.catalogue import Submission
from app.documents.pipeline import NO_PAGES
from app.errors import ServiceError
from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logging
from app.wiring.documents import RETRY_FOREVER, Documents, check_documents, open_documents_alone

EXTENSIONS = {
    ".htm", ".html", ".markdown", ".md", ".mdx", ".pdf", ".rst", ".text", ".txt", ".xhtml",
}  # fmt: skip
"""Of the files that a folder is searched for; a file that is named itself may have any."""
POLL_INTERVAL = 0.5
"""Seconds between two looks at a document that another process is processing, or that waits."""

Item = Path | str
"""A file, or a URL."""


@dataclass
class Report:
    """How many items were loaded, unchanged and failed, and why they failed."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def fail(self, name: object, reason: object) -> None:
        """Record what is not in the store."""
        self.counts["failed"] += 1
        self.failures.append(f"{name}: {reason}")


async def load(items: Sequence[Item], settings: Settings, console: Console) -> Report:
    """Load items, showing the progress on the console."""
    report = Report()
    columns = (TextColumn("Loading"), BarColumn(), MofNCompleteColumn())
    async with open_documents_alone(settings) as documents:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("Loading", total=len(items))
            remaining, most = iter(items), settings.max_body_bytes

            async def load_next() -> None:
                for item in remaining:
                    await _load(item, documents, most, report)
                    progress.advance(bar)

            async with asyncio.TaskGroup() as tasks:
                # One more than are processed: while one is embedded, another is read.
                for _ in range(documents.pipeline.width + 1):
                    tasks.create_task(load_next())
    return report


async def _load(item: Item, documents: Documents, max_bytes: int, report: Report) -> None:
    try:
        submission = await asyncio.to_thread(_submission, item, max_bytes, documents)
        report.counts[await _process(submission, documents)] += 1
    except OSError as error:
        report.fail(item, error.strerror or error)
    except ServiceError as error:
        report.fail(item, error)


def _submission(item: Item, max_bytes: int, documents: Documents) -> Submission:
    if isinstance(item, str):
        if documents.pages is None:
            raise ServiceError(NO_PAGES)
        return Submission(url=documents.pages.check(item))
    status = item.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")  # reading a pipe or a device may never end
    if status.st_size > max_bytes:
        raise OSError(f"larger than MAX_BODY_BYTES={max_bytes}")
    return Submission(content=item.read_bytes(), filename=item.name, path=str(item.absolute()))


async def _process(submission: Submission, documents: Documents) -> str:
    """Return "loaded" or "unchanged", or raise the reason why it is neither."""
    document, is_new = await documents.catalogue.submit(submission)
    if not is_new and document.state == "ready":
        return "unchanged"
    while True:
        error = await documents.pipeline.process(document.id)
        if isinstance(error, RETRY_FOREVER):
            raise ServiceError(f"{type(error).__name__}: {error}") from error
        found = await documents.catalogue.find(document.id)
        if found is None or found.state == "failed":
            raise ServiceError(found.error if found and found.error else "deleted meanwhile")
        if found.state == "ready":
            return "loaded"
        await asyncio.sleep(POLL_INTERVAL)


def expand(names: Iterable[str], report: Report) -> Iterator[Item]:
    """List the files and URLs that are named; OSError for a name that does not exist.

    A folder is searched recursively, except for hidden files and links to folders; those that
    cannot be read are failures in the report.
    """

    def unreadable(error: OSError) -> None:
        report.fail(error.filename, error.strerror)

    for name in names:
        if name.startswith(("http://", "https://")):
            yield name
        elif not stat.S_ISDIR(os.stat(name).st_mode):  # noqa: PTH116 -- Path("") is a folder
            yield Path(name)
        else:
            for directory, folders, files in os.walk(name, onerror=unreadable):
                folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
                for path in (Path(directory, file) for file in sorted(files)):
                    if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
                        yield path


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m app.ingest", description="Load documents.")
    parser.add_argument("names", nargs="+", metavar="PATH_OR_URL", help="a file, folder or URL")
    unread = Report()
    try:
        items = list(expand(parser.parse_args().names, unread))
    except OSError as error:
        parser.error(f"{error.filename!r}: {error.strerror}")
    settings = load_settings()
    configure_logging("ERROR")
    check_documents(settings)
    console = Console()
    try:
        report = asyncio.run(load(items, settings, console))
    except KeyboardInterrupt:
        sys.exit("Stopped. Run the command again to continue.")
    failures = unread.failures + report.failures
    for failure in failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    loaded, unchanged = report.counts["loaded"], report.counts["unchanged"]
    console.print(f"{loaded} loaded, {unchanged} unchanged, {len(failures)} failed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
