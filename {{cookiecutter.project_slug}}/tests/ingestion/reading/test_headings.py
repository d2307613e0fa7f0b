"""Headings of Markdown, and the path of them above a place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.headings import Outline, headings


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("# One\n\n## Two ##\n", [(1, "One"), (2, "Two")]),
        ("One\n===\n\nTwo\n---", [(1, "One"), (2, "Two")]),
        ("   ###### Six\r\n", [(6, "Six")]),
        ("#\n", [(1, "")]),
        ("#hashtag\n####### seven\n    # code\n", []),
        ("```\n# code\n```\n# One", [(1, "One")]),
        ("~~~~ python\n# code\n~~~\n# code\n~~~~~\n# One", [(1, "One")]),
        ("```\n``` python\n# code\n```", []),
        ("```\n# never closed", []),
        ("``` `inline` ```\n# One", [(1, "One")]),
        ("- item\n---\n\n---\n| a |\n---\n# One\n---", [(1, "One")]),
        ("# " + "x" * 1000, []),
    ],
)
def test_headings_are_commonmarks(markdown: str, found: list[tuple[int, str]]) -> None:
    """Both kinds count; code, rules, tables and overlong lines do not."""
    assert [(heading.level, heading.text) for heading in headings(markdown)] == found


def test_the_path_is_what_a_place_lies_under() -> None:
    """A heading ends those of its level and below; it does not lie under itself."""
    markdown = "intro\n# A\na\n### B\nb\n## C\nc\n# D\nd"
    outline = Outline(markdown)
    paths = {place: outline.path(markdown.index(place)) for place in ["a", "b", "c", "d"]}
    assert paths == {"a": ["A"], "b": ["A", "B"], "c": ["A", "C"], "d": ["D"]}
    assert outline.path(0) == []
    assert outline.path(markdown.index("# A")) == []
    assert outline.path(markdown.index("### B")) == ["A"]
    assert outline.path(markdown.index("## C")) == ["A"]


@given(st.text("#=-`~ \t\r\n\x0b\u2028ab>|1.", max_size=200))
def test_headings_are_where_they_say(markdown: str) -> None:
    """Each starts a line at its offset, in order, has its text there, and is of a level."""
    found = list(headings(markdown))
    assert [heading.offset for heading in found] == sorted({heading.offset for heading in found})
    for heading in found:
        assert 1 <= heading.level <= 6
        line = markdown[heading.offset :].splitlines()[0]
        assert heading.text in line
        assert (
            not markdown[: heading.offset]
            or markdown[: heading.offset].splitlines(keepends=True)[-1]
            != markdown[: heading.offset].splitlines()[-1]
        )
