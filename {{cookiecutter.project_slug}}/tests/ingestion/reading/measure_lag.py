"""Measure how late the event loop is while 1,000 Markdown files become passages.

    uv run python -m tests.ingestion.reading.measure_lag

in worker processes, in as many threads, and on the loop itself: the delay of a 5 ms timer at the
99th percentile and at its worst, and the time that the files take.
"""

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles

from app.ingestion.reading import DocumentReader, read
from app.ingestion.worker import WorkerPool

FILES, AT_ONCE = 1000, 2
TICK = 0.005
WORDS = ["stream", "token", "limit", "window", "slot", "queue", "client", "answer", "drain"]

Reading = Callable[[bytes], Awaitable[object]]


def markdown(number: int) -> bytes:
    """Write a file of sections, paragraphs, lists and code; of 7 KB at the median, some of 100."""
    choose = random.Random(number)
    parts = [f"# Document {number}"]
    for section in range(int(choose.lognormvariate(2.3, 1)) + 1):
        text = " ".join(choose.choice(WORDS) + choose.choice(["", "s", "."]) for _ in range(80))
        items = "\n".join(f"- {choose.choice(WORDS)} {item}" for item in range(5))
        parts += [f"## Section {section}", text, items, f"```\n{choose.choice(WORDS)}()\n```"]
    return "\n\n".join(parts).encode()


async def lateness(late: list[float]) -> None:
    """Note how late the event loop is, until cancelled."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(TICK)
        late.append(time.perf_counter() - before - TICK)


async def measure(name: str, files: list[bytes], reading: Reading) -> None:
    """Print how late the loop was, and how long it took, to read all files."""
    late = list[float]()
    rest = iter(files)

    async def work() -> None:
        for content in rest:
            await reading(content)

    await asyncio.gather(*(reading(files[0]) for _ in range(AT_ONCE)))  # start what there is
    watch = asyncio.create_task(lateness(late))
    await asyncio.sleep(TICK)
    before = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    took = time.perf_counter() - before
    await asyncio.sleep(2 * TICK)
    watch.cancel()
    p99, worst = quantiles(late, n=100, method="inclusive")[-1] * 1000, max(late) * 1000
    sys.stdout.write(f"{name:20} {p99:8.1f} ms {worst:8.1f} ms {took:8.1f} s\n")


async def main() -> None:
    """Measure each way once."""
    files = [markdown(number) for number in range(FILES)]
    size = sum(map(len, files)) / 1e6
    sys.stdout.write(f"{FILES} files, {size:.1f} MB: late at p99, at worst; time\n")

    async def on_the_loop(content: bytes) -> None:
        read(content, "text/markdown", None, "")
        await asyncio.sleep(0)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        loop = asyncio.get_running_loop()
        async with WorkerPool(processes=AT_ONCE) as pool:
            reader = DocumentReader(pool)
            await measure(
                "worker processes", files, lambda text: reader.passages_of(text, None, "a.md")
            )
        await measure(
            "threads",
            files,
            lambda text: loop.run_in_executor(threads, read, text, None, "a.md", ""),
        )
    await measure("on the loop", files, on_the_loop)


if __name__ == "__main__":
    asyncio.run(main())
