"""What is shown of a text that was found."""

import pytest

from app.retrieval.protocol import SNIPPET_LENGTH, Found


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zebras\n\n# Zebras\n\nThey have stripes.", "They have stripes."),
        ("Zebras > Food\n\nThey eat grass.", "Food They eat grass."),
        ("# Zebras\n\nThey have\nstripes.", "They have stripes."),
        ("Zebras have stripes.", "Zebras have stripes."),
        ("Zebras", "Zebras"),
        ("> # quoted", "> # quoted"),
    ],
)
def test_title_is_not_shown_twice(text: str, shown: str) -> None:
    """A snippet stands beside its title, so it begins with what comes after that."""
    assert Found("Zebras", text, "documents").snippet == shown


def test_text_without_a_title_is_shown_as_it_is() -> None:
    """White space is one blank."""
    assert Found("", "# A\n\nb", "documents").snippet == "# A b"


def test_long_text_is_cut() -> None:
    """The cut is marked, and within the length."""
    snippet = Found("", "word " * SNIPPET_LENGTH, "documents").snippet
    assert len(snippet) <= SNIPPET_LENGTH
    assert snippet.endswith("…")
