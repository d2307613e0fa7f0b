"""Which words FTS5 is given."""

from app.stores.sqlite_words import MAX_WORDS, distinct_words


def test_distinct_words() -> None:
    """A question's words come once each whatever their case, the longest first."""
    assert distinct_words("Is a store A STORE? 退款") == ["store", "is", "退款", "a"]


def test_too_many_words() -> None:
    """Of too many words the longest are kept."""
    words = distinct_words(" ".join("x" * n for n in range(1, 100)))
    assert [len(word) for word in words] == list(range(99, 99 - MAX_WORDS, -1))
