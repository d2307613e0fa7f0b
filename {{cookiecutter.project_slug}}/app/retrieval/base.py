"""What a source is, and what it finds. Needs the standard library only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

SNIPPET_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that the source of this name found for a question."""

    title: str
    text: str
    source: str
    url: str | None = None

    @property
    def snippet(self) -> str:
        """The beginning of the text, for display, without a title that it repeats."""
        text, title = self.text.lstrip(), self.title.strip()
        while title and (head := text.lstrip("#> \n")).startswith((f"{title}\n", f"{title} > ")):
            text = head[len(title) :].lstrip("> \n")
        text = " ".join(text.split())
        return text if len(text) <= SNIPPET_LENGTH else f"{text[: SNIPPET_LENGTH - 1].rstrip()}…"


@dataclass(frozen=True, slots=True)
class Degraded:
    """A source that the answer goes without, and a reason for the public."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What all sources found together, best first, and which sources are missing."""

    found: Sequence[Found] = ()
    degraded: Sequence[Degraded] = ()


class Source(Protocol):
    """Something that can be searched; `name` is how it is cited and reported."""

    name: str

    async def search(self, question: str, *, limit: int) -> Sequence[Found]:
        """Find up to `limit` passages, best first. May fail in any way; is cancelled when late."""
