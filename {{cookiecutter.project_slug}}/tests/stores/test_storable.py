"""What no database can keep is replaced, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stores.storable import storable, storable_metadata

ANY = st.characters(exclude_categories=())
"""Surrogates too."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a\0b", "a\ufffdb"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\0\ud83d\ude00\ud83d", "\ufffd\U0001f600\ufffd"),
        ("\ufeff\x01\n\u2028é\U0010ffff", "\ufeff\x01\n\u2028é\U0010ffff"),
    ],
    ids=ascii,
)
def test_storable(text: str, expected: str) -> None:
    """U+0000 and lone surrogates become U+FFFD; two surrogates that are a pair become one."""
    assert storable(text) == expected


@given(st.text(ANY))
def test_any_text(text: str) -> None:
    """Of any text comes UTF-8 without U+0000, which does not change when stored again."""
    stored = storable(text)
    assert b"\0" not in stored.encode()
    assert storable(stored) == stored


@given(st.text())
def test_good_text_stays(text: str) -> None:
    """A text of Unicode's characters stays as it is, but for U+0000."""
    assert storable(text) == text.replace("\0", "\ufffd")


def test_storable_metadata() -> None:
    """Metadata are mended however deep, and are then JSON for the strictest of readers."""
    infinite = [float("inf"), float("-inf"), float("nan"), 1.5, 2, True, None]
    mended = storable_metadata({"a\0": {"\ud800": ["\0", ("\0",)]}, "n": infinite, "s": "ok"})
    assert mended == {
        "a\ufffd": {"\ufffd": ["\ufffd", ["\ufffd"]]},
        "n": [None, None, None, 1.5, 2, True, None],
        "s": "ok",
    }
    json.dumps(mended, allow_nan=False)
