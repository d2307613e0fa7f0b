"""Load folders, files and URLs into the store: `python -m app.ingest PATH_OR_URL…`.

The command processes the documents itself, also beside a running service. It can be stopped at any
time and run again: documents that are in the store unchanged are skipped. The exit status is 0 if
everything is in the store, 1 if something is not, with a line for each, and 2 if a file or folder
is not there or cannot be listed.
"""

import argparse
import asyncio
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

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


async def load(items: Sequence[Item], settings: Settings, console: Console) -> Counter[str]:
    """Load items; show the progress and each failure on the console.

    Returns how many were "loaded", "unchanged" and "failed".
    """
    counts = Counter[str]()
    remaining = iter(items)
    async with open_documents_alone(settings) as documents:
        with Progress(console=console) as progress:
            bar = progress.add_task("Loading", total=len(items))

            async def load_next() -> None:
                for item in remaining:
                    try:
                        submission = await asyncio.to_thread(_submission, item, settings, documents)
                        counts[await _process(submission, documents)] += 1
                    except (OSError, ServiceError) as error:
                        counts["failed"] += 1
                        reason = getattr(error, "strerror", None) or error
                        text = Text(f"{item}: {reason}", style="red")
                        console.print(text, highlight=False, soft_wrap=True)
                    progress.advance(bar)

            async with asyncio.TaskGroup() as tasks:
                # One more than are processed: while one is embedded, another is read.
                for _ in range(documents.pipeline.width + 1):
                    tasks.create_task(load_next())
    return counts


def _submission(item: Item, settings: Settings, documents: Documents) -> Submission:
    if isinstance(item, str):
        if documents.pages is None:
            raise ServiceError(NO_PAGES)
        return Submission(url=documents.pages.check(item))
    status = item.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")  # reading a pipe or a device may never end
    if status.st_size > settings.max_body_bytes:
        raise OSError(f"larger than MAX_BODY_BYTES={settings.max_body_bytes}")
    path = str(item.absolute())
    return Submission(content=item.read_bytes(), filename=item.name, path=path)


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


def expand(names: Iterable[str]) -> Iterator[Item]:
    """List the files and URLs that are named; OSError for what does not exist or cannot be read.

    A folder is searched recursively, except for hidden files and links to folders.
    """

    def fail(error: OSError) -> NoReturn:
        raise error

    for name in names:
        if name.startswith(("http://", "https://")):
            yield name
        elif not stat.S_ISDIR(os.stat(name).st_mode):  # noqa: PTH116 -- Path("") is a folder
            yield Path(name)
        else:
            for directory, folders, files in os.walk(name, onerror=fail):
                folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
                for path in (Path(directory, file) for file in sorted(files)):
                    if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
                        yield path


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m app.ingest", description="Load documents.")
    parser.add_argument("names", nargs="+", metavar="PATH_OR_URL", help="a file, folder or URL")
    try:
        items = list(expand(parser.parse_args().names))
    except OSError as error:
        parser.error(f"{error.filename!r}: {error.strerror}")
    settings = load_settings()
    configure_logging("ERROR")
    check_documents(settings)
    console = Console()
    try:
        counts = asyncio.run(load(items, settings, console))
    except KeyboardInterrupt:
        sys.exit("Stopped. Run the command again to continue.")
    summary = ", ".join(f"{counts[name]} {name}" for name in ("loaded", "unchanged", "failed"))
    console.print(summary)
    sys.exit(counts["failed"] > 0)


if __name__ == "__main__":
    main()
