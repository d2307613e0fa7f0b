"""Which words of a question SQLite ranks by."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from app.stores.sqlite_schema import set_up
from app.stores.sqlite_search import telling
from tests.stores.contract import MODEL

WORDS = ["common", "usual", "rare", "absent", "single"]


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    """Provide ten passages: words of which ten, six, two and one have one."""
    with closing(sqlite3.connect(":memory:")) as connection:
        set_up(connection, MODEL)
        for number in range(10):
            has = (True, number < 6, number < 2, False, number < 1)
            text = " ".join(word for word, there in zip(WORDS, has, strict=True) if there)
            connection.execute("INSERT INTO words (text) VALUES (?)", (text,))
        yield connection


@pytest.mark.parametrize(
    ("most", "budget", "expected"),
    [
        (10, 100, ["absent", "single", "rare", "usual", "common"]),
        (9, 100, ["absent", "single", "rare", "usual"]),
        (5, 100, ["absent", "single", "rare"]),
        (10, 9, ["absent", "single", "rare", "usual"]),
        (10, 8, ["absent", "single", "rare"]),
        (10, 3, ["absent", "single", "rare"]),
    ],
)
def test_telling(database: sqlite3.Connection, most: int, budget: int, expected: list[str]) -> None:
    """The rarest words are taken, as long as few enough passages have each and all of them."""
    assert telling(database, WORDS, most=most, budget=budget) == expected


def test_the_rarest_of_common_words(database: sqlite3.Connection) -> None:
    """One word is taken even if more passages have it than are to be ranked."""
    assert telling(database, ["common", "usual"], most=10, budget=2) == ["usual"]


def test_a_word_is_no_operator(database: sqlite3.Connection) -> None:
    """Words that FTS5 takes for operators are words."""
    assert telling(database, ["OR", "NEAR"], most=10) == ["NEAR", "OR"]
