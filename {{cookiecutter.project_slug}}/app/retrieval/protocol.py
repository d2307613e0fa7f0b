"""What a source of knowledge is, what it finds, and how retrieval fails.

Needs the standard library only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

SNIPPET_LENGTH = 300


class RetrievalError(Exception):
    """Retrieval failed in a way that the answer cannot do without it."""

    type = "retrieval_failed"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequiredSourceError(RetrievalError):
    """A source that is required failed or was late; `__cause__` says how."""

    type = "required_source_failed"


@dataclass(frozen=True, slots=True)
class Found:
    """A text that a source found for a question."""

    title: str
    text: str
    source: str
    """The name of the source."""
    url: str | None = None

    @property
    def snippet(self) -> str:
        """The beginning of the text, for display: without the title, as often as that leads it."""
        text, title = self.text.lstrip(), self.title.strip()
        while title and (head := text.lstrip("#> \n")).startswith((f"{title}\n", f"{title} > ")):
            text = head[len(title) :].lstrip("> \n")
        text = " ".join(text.split())
        return text if len(text) <= SNIPPET_LENGTH else f"{text[: SNIPPET_LENGTH - 1].rstrip()}…"


@dataclass(frozen=True, slots=True)
class Degraded:
    """A source that the answer goes without."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What all sources found together, best first, and which of them are missing."""

    found: Sequence[Found] = ()
    degraded: Sequence[Degraded] = ()


class Source(Protocol):
    """Something that can be asked."""

    @property
    def name(self) -> str:
        """What the source is called, where it is cited and where it is missed."""
        ...

    @property
    def required(self) -> bool:
        """Whether an answer makes no sense without it."""
        ...

    @property
    def timeout(self) -> float | None:
        """Its own deadline in seconds; None for that of the whole retrieval."""
        ...

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Find up to `limit` texts, best first. May fail in any way, and is cancelled when late."""
        ...
