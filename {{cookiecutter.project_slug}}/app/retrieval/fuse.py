"""One ranking out of several: reciprocal rank fusion, without duplicates.

A text's score is the sum of 1 / (K + its rank) over the sources that found it: the ranks count,
since the scores of different sources do not compare. Source: Cormack, Clarke and Büttcher,
"Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009,
https://doi.org/10.1145/1571941.1572114 (K = 60 is theirs).

Two texts are one where, white space and case aside, one contains the other, or where two sources
found them at the same URL; the longer stands for both, and their scores add up, each source
counting once, at its best rank: saying a thing twice does not make it better. What one source
found at one URL are passages of a document, and all stay; so does what another source found where
only a part of a longer text was. A text without a word is dropped.

Scores do not depend on the order of the sources; it decides among equals only. All are compared
with all, which is meant for some dozens: 60 texts of 2,000 characters take about 3 ms.

Needs: `protocol.py` beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import fsum
from urllib.parse import SplitResult, urlsplit

from .protocol import Found

K = 60
DEFAULT_PORTS = {"http": 80, "https": 443}
TRACKING = "utm_"


def fuse(rankings: Iterable[Sequence[Found]]) -> list[Found]:
    """Return what the rankings (one a source, best first) hold together, best first."""
    groups: list[_Group] = []
    for entry in sorted(_entries(rankings), key=_longest_first):
        group = next((group for group in groups if group.has(entry)), None)
        if group is None:
            group = _Group(entry)
            groups.append(group)
        group.add(entry)
    return [group.chosen.found for group in sorted(groups, key=_best_first)]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A text where one source ranks it; 1 is the best rank."""

    found: Found
    source: int
    rank: int
    text: str
    url: object


@dataclass(frozen=True, slots=True)
class _Group:
    """Entries that say the same; the longest, which came first, is chosen."""

    chosen: _Entry
    ranks: dict[int, int] = field(default_factory=dict)
    pages: set[tuple[int, object]] = field(default_factory=set)

    def has(self, entry: _Entry) -> bool:
        return entry.text in self.chosen.text or any(
            url == entry.url and source != entry.source for source, url in self.pages
        )

    def add(self, entry: _Entry) -> None:
        self.ranks[entry.source] = min(entry.rank, self.ranks.get(entry.source, entry.rank))
        if entry.url is not None and entry.text == self.chosen.text:
            self.pages.add((entry.source, entry.url))


def _entries(rankings: Iterable[Sequence[Found]]) -> list[_Entry]:
    entries = [
        _Entry(found, source, rank, _comparable(found.text), url_key(found.url))
        for source, ranking in enumerate(rankings)
        for rank, found in enumerate(ranking, 1)
    ]
    return [entry for entry in entries if not entry.text.isspace()]


def _comparable(text: str) -> str:
    """Leave out what makes no difference; spaces round it keep it from beginning within a word."""
    words = " ".join(text.casefold().split())
    return f" {words.strip(' .…')} "  # a search engine's snippet ends in dots


def _longest_first(entry: _Entry) -> tuple[int, str, bool, int, int]:
    """Put what contains before what is contained, and of equals one that has a URL first."""
    return -len(entry.text), entry.text, entry.url is None, entry.rank, entry.source


def _best_first(group: _Group) -> tuple[float, int, int]:
    score = fsum(1 / (K + rank) for rank in group.ranks.values())
    rank, source = min((rank, source) for source, rank in group.ranks.items())
    return -score, rank, source


def url_key(url: str | None) -> object:
    """Return what all ways to write a page's URL have in common; None for no URL.

    Case of scheme and host, default port, fragment, trailing slash and utm_ parameters are ignored.
    """
    try:
        parts = urlsplit((url or "").strip())
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return url
    place = (parts.scheme, parts.username, parts.hostname, port, parts.path.rstrip("/"))
    return (*place, *_query(parts)) if any(parts) else None


def _query(parts: SplitResult) -> list[str]:
    fields = parts.query.split("&")
    return [field for field in fields if field and not field.lower().startswith(TRACKING)]
