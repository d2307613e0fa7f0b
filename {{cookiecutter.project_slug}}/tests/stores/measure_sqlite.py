"""Measure the SQLite store: what it costs to store and to search, and what the loop feels of it.

    uv run python -m tests.stores.measure_sqlite 10000 100000

prints for each number of passages (of 170 words, as frequent as words are, and 512 dimensions)
how many milliseconds each takes at the median and the 99th percentile, and how late the event
loop was meanwhile at its worst.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np

from app.stores.protocol import Document, Passage, Vector
from app.stores.sqlite import SqliteStore

DIMENSION, WORDS, VOCABULARY, PASSAGES = 512, 170, 50_000, 20
SEARCHES = 100
VARIETY = 500
"""Documents that are made up; then they repeat."""
TICK = 0.001

random = np.random.default_rng(1)


def words(count: int) -> str:
    """Return words of which the n-th is 1 / n^1.2 as frequent as the first."""
    return " ".join(f"w{n}x" for n in np.minimum(random.zipf(1.2, count), VOCABULARY))


def vector() -> Vector:
    """Return a random direction."""
    row = random.standard_normal(DIMENSION).astype(np.float32)
    return row / np.float32(np.linalg.norm(row))


async def lateness(late: list[float]) -> None:
    """Note how late the event loop is, until cancelled."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK)
        late.append(time.perf_counter() - before - TICK)


async def measure(name: str, call: Callable[[int], Awaitable[object]], times: int) -> None:
    """Print how long the calls took."""
    took, late = list[float](), list[float]()
    watch = asyncio.create_task(lateness(late))
    for number in range(times):
        before = time.perf_counter()
        await call(number)
        took.append(time.perf_counter() - before)
    late.append(0)
    watch.cancel()
    median, worst = np.percentile(np.array(took) * 1000, [50, 99])
    sys.stdout.write(
        f"{name:34} {median:8.1f} {worst:8.1f} ms   loop late {max(late) * 1000:5.1f} ms\n"
    )


async def measure_store(path: Path, passages: int) -> None:
    """Fill a store, and search it."""

    async def submit(number: int) -> None:
        await store.submit(Document(f"d{number}", "1", "title"), b"x" * 20_000)

    async def fill(number: int) -> None:
        await store.begin(f"d{number}")
        await store.upsert(f"d{number}", "1", parts[number % len(parts)])

    async def search(_number: int) -> None:
        await store.search(words(11), vector(), limit=8)

    parts = [[Passage(words(WORDS), vector()) for _ in range(PASSAGES)] for _ in range(VARIETY)]
    count = passages // PASSAGES
    async with SqliteStore(path, model="random") as store:
        await measure("submit a document", submit, count)
        await measure(f"store its {PASSAGES} passages", fill, count)
        await measure("first search", search, 1)
        await measure("search", search, SEARCHES)
        await submit(count)
        await measure("store one more", lambda _: fill(count), 1)
        await measure("search after it", search, 1)


def main(arguments: list[str]) -> None:
    """Measure a new store for each number of passages."""
    for passages in map(int, arguments):
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(f"{passages} passages:\n")
            file = Path(folder) / "documents.db"
            asyncio.run(measure_store(file, passages))
            sys.stdout.write(f"the file has {file.stat().st_size / 1e6:.0f} MB\n")


if __name__ == "__main__":
    main(sys.argv[1:])
