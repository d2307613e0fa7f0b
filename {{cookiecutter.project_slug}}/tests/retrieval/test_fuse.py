"""Rankings are fused by rank, without duplicates."""

import pytest

from app.retrieval.base import Found
from app.retrieval.fuse import fuse

URL = "https://example.com/page"


def found(text: str, url: str | None = None) -> Found:
    """Make a passage."""
    return Found("", text, "docs", url)


def fused(*rankings: list[str]) -> list[str]:
    """Fuse texts."""
    return [one.text for one in fuse([[found(text) for text in ranking] for ranking in rankings])]


@pytest.mark.parametrize(
    ("rankings", "expected"),
    [
        ([["a", "both"], ["b", "both"]], ["both", "a", "b"]),
        ([["a1", "a2"], ["b1", "b2"]], ["a1", "b1", "a2", "b2"]),
        ([["a", "b", "c", "d"], ["x", "d", "b"], ["y", "d"]], ["d", "b", "a", "x", "y", "c"]),
        ([["a", "x", "x", "x", "x"], ["b", "c"]], ["a", "b", "x", "c"]),  # a source counts once
        ([["Straße  nach\n Rom"], [" STRASSE nach rom "]], ["Straße  nach\n Rom"]),
        ([["a", "the whole of the text"], ["b", "of the …"]], ["the whole of the text", "a", "b"]),
        ([["15 dogs concatenate"], ["5", "cat"]], ["15 dogs concatenate", "5", "cat"]),
        ([["", " \n", "…", "a"]], ["a"]),
    ],
)
def test_rankings_are_fused(rankings: list[list[str]], expected: list[str]) -> None:
    """Scores add up over sources, and a text is there once."""
    assert fused(*rankings) == expected


def test_two_sources_found_the_same_page() -> None:
    """They are merged into the longer text; what one source found there are passages that stay."""
    page, stored = found("a summary of it", f"{URL}/#part"), found("a long passage from it", URL)
    assert fuse([[found("x"), page], [found("y"), stored]])[0] is stored
    first, second = found("its first passage", URL), found("the second of all", URL)
    assert fuse([[first, second], [found("snippet", URL)]]) == [first, second]
    linked, unlinked = found("text", URL), found("no URL is no page", "")
    assert fuse([[found("text")], [linked], [unlinked], [found("x")]])[:2] == [linked, unlinked]
