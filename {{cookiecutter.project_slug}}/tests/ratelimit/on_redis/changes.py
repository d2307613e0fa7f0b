"""What a fallback tells its `on_change`."""

import asyncio


class Changes(list[bool]):
    """What was told, in order."""

    def __init__(self) -> None:
        super().__init__()
        self._told = asyncio.Event()

    def __call__(self, degraded: bool) -> None:
        """Take note."""
        self.append(degraded)
        self._told.set()

    async def reach(self, number: int) -> None:
        """Wait until so many were told."""
        async with asyncio.timeout(20):
            while len(self) < number:
                self._told.clear()
                await self._told.wait()
