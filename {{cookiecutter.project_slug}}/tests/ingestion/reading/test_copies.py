"""Each module works in a project of another name, with what it says it needs and nothing else."""

from pathlib import Path

import pytest

import app.ingestion
from tests.copying import needs, use_copied

PACKAGE = Path(app.ingestion.__file__).parent

DECODING = """
from theirs.decoding import decode

print(decode(b"\\xef\\xbb\\xbfHello"))
"""

HEADINGS = """
from theirs.headings import headings

print(*(heading.text for heading in headings("# One")))
"""

WORKER = """
import asyncio
from functools import partial
from operator import add
from theirs.worker import WorkerPool

print("here")

async def main():
    async with WorkerPool(processes=1, timeout=30) as pool:
        print(await pool.run(partial(add, 1, 2)))

if __name__ == "__main__":
    asyncio.run(main())
"""

PDF = """
import logging
from theirs.decoding import ExtractionError
from theirs.pdf import read_pdf

logging.disable()
try:
    read_pdf(b"no")
except ExtractionError as error:
    print(error.type)
"""

SPLIT = """
from theirs.split import split

print(*split("# One", title="Title"))
"""

READING = """
import asyncio
from theirs.reading import DocumentReader
from theirs.worker import WorkerPool

async def main():
    async with WorkerPool(processes=1, timeout=30) as pool:
        print(await DocumentReader(pool).passages_of(b"<p>Hello", "text/html", "page.html"))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("module", "usage", "output"),
    [
        ("decoding", DECODING, "Hello"),
        ("headings", HEADINGS, "One"),
        ("worker", WORKER, "here\n3"),
    ],
)
def test_a_copied_module_works(module: str, usage: str, output: str, tmp_path: Path) -> None:
    """It needs the standard library (no installed package is in reach) and the files it names."""
    assert use_copied(tmp_path, PACKAGE, module, usage) == output


@pytest.mark.parametrize(
    ("module", "usage", "output"),
    [
        ("pdf", PDF, "unreadable_document"),
        ("split", SPLIT, "Title\n\n# One"),
        ("reading", READING, "('page', ['page\\n\\nHello'])"),
    ],
)
def test_a_copied_module_works_with_its_packages(
    module: str, usage: str, output: str, tmp_path: Path
) -> None:
    """It needs the packages and the files it names."""
    assert use_copied(tmp_path, PACKAGE, module, usage, installed=True) == output


def test_no_file_too_many() -> None:
    """Whoever splits takes no extractor, and whoever reads takes no vendor of pages."""
    assert needs(PACKAGE, "split") == {"split", "headings"}
    assert needs(PACKAGE, "reading") == {
        "reading",
        "worker",
        "extract",
        "split",
        "decoding",
        "headings",
        "pdf",
    }
