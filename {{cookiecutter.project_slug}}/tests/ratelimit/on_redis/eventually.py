"""Waiting for what happens in another process, which can only be asked."""

import asyncio
from collections.abc import Awaitable, Callable


async def eventually(happened: Callable[[], Awaitable[bool]]) -> None:
    """Return when it has happened; TimeoutError after a minute."""
    async with asyncio.timeout(60):
        while not await happened():  # noqa: ASYNC110 -- nothing here can set an event
            await asyncio.sleep(0.005)
