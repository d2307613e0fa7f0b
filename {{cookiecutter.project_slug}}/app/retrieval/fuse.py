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
from math import fsum

from .base import Found

K = 60


@dataclass(frozen=True)
class _Passage:
    """A passage, and its best rank in each source; 1 is the best of all."""

    found: Found
    text: str
    page: str
    ranks: dict[int, int]


def fuse(rankings: Iterable[Sequence[Found]]) -> list[Found]:
    """Return what the rankings (one a source, best first) hold together, best first."""
    entries = [
        (_Passage(found, _comparable(found.text), _page(found.url), {}), source, rank)
        for source, ranking in enumerate(rankings)
        for rank, found in enumerate(ranking, 1)
    ]
    # The longest first, because it stands for those it contains; of equals, one with a URL.
    entries.sort(key=lambda entry: (-len(entry[0].text), not entry[0].page))
    passages: list[_Passage] = []
    for new, source, rank in entries:
        for one in passages:
            same_page = new.page and new.page == one.page and source not in one.ranks
            if new.text in one.text or same_page:
                break
        else:
            passages.append(one := new)
        one.ranks[source] = min(rank, one.ranks.get(source, rank))
    passages.sort(key=_best_first)
    return [passage.found for passage in passages if not passage.text.isspace()]


def _best_first(passage: _Passage) -> tuple[float, int, int]:
    score = fsum(1 / (K + rank) for rank in passage.ranks.values())
    return -score, *min((rank, source) for source, rank in passage.ranks.items())


def _comparable(text: str) -> str:
    """Drop case and white space; the spaces around it keep matches to whole words."""
    return f" {' '.join(text.casefold().split()).strip(' .…')} "  # snippets end in dots


def _page(url: str | None) -> str:
    """Drop what does not change the page: the fragment and a trailing slash."""
    return (url or "").partition("#")[0].rstrip("/")
