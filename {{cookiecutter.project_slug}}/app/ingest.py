"""Load folders, files and URLs into the store: `python -m app.ingest PATH_OR_URL…`.

The command processes the documents itself, also beside a running service. It can be stopped at any
time and run again: documents that are in the store unchanged are skipped. It prints a line for
each. The exit status is 0 if everything is in the store, 1 if something is not, and 2 if a file or
folder is not there or cannot be listed.
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

from app.documents.catalogue import Document
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


async def load(items: Sequence[Item], settings: Settings) -> Counter[str]:
    """Load items, and print a line for each; return how many were loaded, unchanged and failed."""
    counts, remaining = Counter[str](), iter(items)
    async with open_documents_alone(settings) as documents:

        async def load_next() -> None:
            for item in remaining:
                try:
                    document = await asyncio.to_thread(_read, item, settings, documents)
                    outcome = line = await _process(document, documents)
                except (OSError, ServiceError) as error:
                    outcome, line = "failed", f"failed: {getattr(error, 'strerror', '') or error}"
                counts[outcome] += 1
                print(f"{item}: {line}")  # noqa: T201 -- a command

        async with asyncio.TaskGroup() as tasks:
            # One more than are processed: while one is embedded, another is read.
            for _ in range(documents.pipeline.width + 1):
                tasks.create_task(load_next())
    return counts


def _read(item: Item, settings: Settings, documents: Documents) -> Document:
    if isinstance(item, str):
        return Document(url=documents.pages.check(item))
    size = item.stat().st_size
    if not item.is_file():
        raise OSError("not a regular file")  # reading a pipe or a device may never end
    if size > settings.max_body_bytes:
        raise OSError(f"{size} bytes, larger than MAX_BODY_BYTES={settings.max_body_bytes}")
    id_ = f"path:{item.absolute()}"
    return Document(id=id_, content=item.read_bytes(), filename=item.name)


async def _process(submitted: Document, documents: Documents) -> str:
    """Return "loaded" or "unchanged", or raise the reason why it is neither."""
    document, is_new = await documents.catalogue.submit(submitted)
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
    try:
        counts = asyncio.run(load(items, settings))
    except KeyboardInterrupt:
        sys.exit("Stopped. Run the command again to continue.")
    summary = ", ".join(f"{counts[name]} {name}" for name in ("loaded", "unchanged", "failed"))
    print(summary)  # noqa: T201 -- a command
    sys.exit(counts["failed"] > 0)


if __name__ == "__main__":
    main()
