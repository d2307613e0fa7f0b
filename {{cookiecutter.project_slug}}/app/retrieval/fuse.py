"""One ranking out of several: reciprocal rank fusion, with duplicates merged.

A passage's score is the sum of 1 / (K + its best rank) over the sources that found it; of equal
scores, the better rank and then the earlier source comes first. Two passages are one if, case and
white space aside, one contains the other, or if two sources found them at one URL: the longer one
stands for both. What one source found at one URL are passages of a document, and all stay.
All are compared with all, which is meant for some dozens. Needs: `base.py` beside it.
Source: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods", SIGIR 2009, https://doi.org/10.1145/1571941.1572114 (K = 60).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .base import Found

K = 60


@dataclass(frozen=True, slots=True)
class _Entry:
    """A passage as one source ranks it, 1 being the best rank."""

    found: Found
    text: str
    page: str | None
    source: int
    rank: int

    def stands_for(self, other: "_Entry") -> bool:
        same_page = self.page is not None and self.page == other.page
        return other.text in self.text or (same_page and self.source != other.source)


def fuse(rankings: Iterable[Sequence[Found]]) -> list[Found]:
    """Return what the rankings (one a source, best first) hold together, best first."""
    entries = [
        _Entry(found, _comparable(found.text), _page(found.url), source, rank)
        for source, ranking in enumerate(rankings)
        for rank, found in enumerate(ranking, 1)
    ]
    # The longest first, because it stands for those it contains; of equals, one with a URL.
    entries.sort(key=lambda one: (-len(one.text), one.text, one.page is None, one.rank))
    groups: list[list[_Entry]] = []
    for entry in entries:
        group = next((group for group in groups if group[0].stands_for(entry)), None)
        if group is not None:
            group.append(entry)
        elif not entry.text.isspace():
            groups.append([entry])
    return [group[0].found for group in sorted(groups, key=_best_first)]


def _best_first(group: list[_Entry]) -> tuple[float, int, int]:
    worst_first = sorted(((entry.rank, entry.source) for entry in group), reverse=True)
    ranks = {source: rank for rank, source in worst_first}
    return -sum(1 / (K + rank) for rank in sorted(ranks.values())), *worst_first[-1]


def _comparable(text: str) -> str:
    """Drop case and white space; the spaces around it keep matches to whole words."""
    return f" {' '.join(text.casefold().split()).strip(' .…')} "  # snippets end in dots


def _page(url: str | None) -> str | None:
    """Drop what does not change the page: the fragment and a trailing slash."""
    return (url or "").partition("#")[0].rstrip("/") or None
