"""Sources that do as they are told, and know which of their searches still run."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from app.retrieval.protocol import Found


def found(text: str, *, url: str | None = None, source: str = "docs", title: str = "") -> Found:
    """Make a text that was found."""
    return Found(title, text, source, url)


@dataclass
class FakeSource:
    """Finds its own name once its `work` is done."""

    name: str
    work: Callable[[], Awaitable[object]]
    required: bool = False
    timeout: float | None = None
    running: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Work, then find."""
        self.asked.append((question, limit))
        self.running += 1
        try:
            await self.work()
        finally:
            self.running -= 1
        return [found(self.name, source=self.name)]


def takes(seconds: float) -> Callable[[], Awaitable[None]]:
    """Work for so long."""

    async def work() -> None:
        await asyncio.sleep(seconds)

    return work


def fails(error: BaseException, *, after: float = 0.0) -> Callable[[], Awaitable[None]]:
    """Raise after so many seconds."""

    async def work() -> None:
        await asyncio.sleep(after)
        raise error

    return work


def cleans_up(seconds: float, *, work: float = 1e9) -> Callable[[], Awaitable[None]]:
    """Work, and when cancelled take so long to end."""

    async def clean() -> None:
        try:
            await asyncio.sleep(work)
        except asyncio.CancelledError:
            await asyncio.sleep(seconds)
            raise

    return clean


def ignores_cancellation(*, until: asyncio.Event) -> Callable[[], Awaitable[None]]:
    """Go on until the event, however often it is cancelled."""

    async def work() -> None:
        while not until.is_set():
            try:
                await until.wait()
            except asyncio.CancelledError:
                continue

    return work
