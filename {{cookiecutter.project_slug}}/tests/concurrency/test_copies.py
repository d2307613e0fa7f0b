"""Each module works in a project of another name, with what it says it needs and nothing else."""

from pathlib import Path

import pytest

import app.concurrency
from tests.copying import needs, use_copied

PACKAGE = Path(app.concurrency.__file__).parent

FAIR_QUEUE = """
from theirs.fair_queue import FairQueue

queue = FairQueue()
for item, key in [("a1", "a"), ("a2", "a"), ("b1", "b")]:
    queue.push(item, key)
print(*(queue.pop() for _ in range(3)))
"""

LIMITER = """
import asyncio
from theirs.limiter import ConcurrencyLimiter, QueueFull

async def main():
    limiter = ConcurrencyLimiter(1, max_queue=1, queue_timeout=5.0)
    async with limiter.slot("a"):
        with limiter.join("b") as turn:
            try:
                limiter.join("c")
            except QueueFull as error:
                print(error.type, turn.position)
    print(limiter.in_flight)

asyncio.run(main())
"""

ADAPTIVE = """
import asyncio
from theirs.adaptive import AdaptiveCeiling
from theirs.limiter import ConcurrencyLimiter

async def main():
    limiter = ConcurrencyLimiter(10, max_queue=1, queue_timeout=5.0)
    AdaptiveCeiling(limiter, maximum=10).on_overload(asyncio.get_running_loop().time())
    print(limiter.limit)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("module", "usage", "output"),
    [
        ("fair_queue", FAIR_QUEUE, "a1 b1 a2"),
        ("limiter", LIMITER, "queue_full 1\n0"),
        ("adaptive", ADAPTIVE, "8"),
    ],
)
def test_a_copied_module_works(module: str, usage: str, output: str, tmp_path: Path) -> None:
    """It needs the standard library (no installed package is in reach) and the files it names."""
    assert use_copied(tmp_path, PACKAGE, module, usage) == output


def test_the_limiter_is_three_files() -> None:
    """Whoever wants the limiter alone need not take Redis, nor the adaptive ceiling."""
    assert needs(PACKAGE, "limiter") == {"limiter", "fair_queue", "protocol"}
