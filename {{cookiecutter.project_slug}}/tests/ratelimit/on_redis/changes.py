"""What a fallback tells its `on_change`."""

import asyncio
from collections.abc import Callable


class Changes(list[bool]):
    """What was told, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._told = asyncio.Event()

    def __call__(self, degraded: bool) -> None:
        """Take note."""
        self.append(degraded)
        self._told.set()

    @property
    def degraded(self) -> bool:
        """Whether the last that was told is a takeover."""
        return bool(self) and self[-1]

    async def reach(self, number: int) -> None:
        """Wait until so many were told."""
        await self._until(lambda: len(self) >= number)

    async def settle(self, *, degraded: bool) -> None:
        """Wait until this is the last that was told; at first the server decides."""
        await self._until(lambda: self.degraded == degraded)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                self._told.clear()
                await self._told.wait()
