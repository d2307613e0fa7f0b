"""Waiting for what limiters do in the background."""

import asyncio
from typing import Any


class Quiet:
    """Knows the tasks there were before the limiters', and waits until there are no others."""

    def __init__(self) -> None:
        self._before = asyncio.all_tasks()

    async def __call__(self) -> None:
        """Return when every settlement was sent; not to be called while another task reserves."""
        while others := self._others():
            await asyncio.wait(others, timeout=10)

    def _others(self) -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - self._before - {asyncio.current_task()}
