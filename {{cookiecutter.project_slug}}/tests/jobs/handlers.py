"""A handler of jobs that does as a test says, and remembers what it was told."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Does = Callable[[], Awaitable[None]]


def takes(seconds: float) -> Does:
    """Succeed after so many seconds."""

    async def do() -> None:
        await asyncio.sleep(seconds)

    return do


def fails(error: BaseException) -> Does:
    """Raise an error at once."""

    async def do() -> None:
        raise error

    return do


@dataclass
class FakeHandler:
    """Does something for each job, or else what the document's own list says next."""

    does: Does = field(default_factory=lambda: takes(0))
    own: dict[str, list[Does]] = field(default_factory=dict)
    gives_up: Does = field(default_factory=lambda: takes(0))
    begun: list[tuple[float, str]] = field(default_factory=list)
    """When, and which document."""
    done: list[str] = field(default_factory=list)
    given_up: list[tuple[str, str]] = field(default_factory=list)
    """Which document, and the error."""
    running: list[str] = field(default_factory=list)
    most: int = 0
    """How many ran at once at most."""
    clashes: list[str] = field(default_factory=list)
    """The documents of which two jobs ran at once."""

    @property
    def order(self) -> list[str]:
        """The documents in the order in which they were begun."""
        return [document_id for _, document_id in self.begun]

    async def process(self, document_id: str) -> None:
        """Do a job."""
        self.begun.append((asyncio.get_running_loop().time(), document_id))
        if document_id in self.running:
            self.clashes.append(document_id)
        self.running.append(document_id)
        self.most = max(self.most, len(self.running))
        try:
            own = self.own.get(document_id)
            await (own.pop(0) if own else self.does)()
            self.done.append(document_id)
        finally:
            self.running.remove(document_id)

    async def give_up(self, document_id: str, error: str) -> None:
        """Note the error."""
        self.given_up.append((document_id, error))
        await self.gives_up()
