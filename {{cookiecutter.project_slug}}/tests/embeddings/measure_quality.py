"""Measure how well questions find their answers: by hashing, by words, and by both.

    python -m tests.embeddings.measure_quality

prints for each kind of search the part of the questions with an answer among the first five
(recall@5), and the mean of 1 / the place of the first answer (mean reciprocal rank); then the
same with a letter missing in the longest word of each question.
"""

import re
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence

from app.embeddings.hashing import embed_all, embed_one
from tests.embeddings.questions import ANSWERS, documentation

DEPTH = 20
"""Places that are looked at."""
FUSED = 60
"""The constant of reciprocal rank fusion (Cormack et al., 2009)."""

Search = Callable[[str], Sequence[str]]


def by_hashing(passages: Mapping[str, str]) -> Search:
    """Search by the vectors under test."""
    names, rows = list(passages), embed_all(list(passages.values()))
    return lambda question: [
        names[place] for place in (-(rows @ embed_one(question))).argsort(kind="stable")[:DEPTH]
    ]


def by_words(passages: Mapping[str, str], tokenizer: str) -> Search:
    """Search by BM25, as SQLite's FTS5 has it; any word of the question will do."""
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE VIRTUAL TABLE words USING fts5 (name, text, tokenize='{tokenizer}')")
    database.executemany("INSERT INTO words VALUES (?, ?)", passages.items())

    def search(question: str) -> list[str]:
        match = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        query = "SELECT name FROM words WHERE text MATCH ? ORDER BY rank LIMIT ?"
        return [name for (name,) in database.execute(query, (match, DEPTH))]

    return search


def by_both(one: Search, other: Search) -> Search:
    """Fuse two searches by reciprocal rank."""

    def search(question: str) -> list[str]:
        scores: dict[str, float] = {}
        for found in (one(question), other(question)):
            for place, name in enumerate(found, 1):
                scores[name] = scores.get(name, 0) + 1 / (FUSED + place)
        return sorted(scores, key=scores.__getitem__, reverse=True)

    return search


def misspelt(question: str) -> str:
    """Leave out a letter in the middle of the longest word."""
    word = max(question.split(), key=len)
    return question.replace(word, word[: len(word) // 2] + word[len(word) // 2 + 1 :])


def quality(search: Search, *, asked: Callable[[str], str] = str) -> tuple[float, float]:
    """Return recall@5 and the mean reciprocal rank over all questions, put as `asked` puts them."""
    places = []
    for question, answers in ANSWERS.items():
        found = [place for place, name in enumerate(search(asked(question)), 1) if name in answers]
        places.append(min(found, default=float("inf")))
    return sum(p <= 5 for p in places) / len(places), sum(1 / p for p in places) / len(places)


def main() -> None:
    """Print a line for each kind of search."""
    passages = documentation()
    hashing, words = by_hashing(passages), by_words(passages, "unicode61")
    stems = by_words(passages, "porter unicode61")
    sys.stdout.write(f"{len(passages)} passages, {len(ANSWERS)} questions\n")
    sys.stdout.write(f"{'':28} recall@5, MRR; both misspelt\n")
    for name, search in {
        "hashing": hashing,
        "BM25": words,
        "BM25 with stems": stems,
        "hashing and BM25": by_both(words, hashing),
        "hashing and BM25 with stems": by_both(stems, hashing),
    }.items():
        figures = [*quality(search), *quality(search, asked=misspelt)]
        sys.stdout.write(" ".join([f"{name:28}", *(f"{figure:6.2f}" for figure in figures)]) + "\n")


if __name__ == "__main__":
    main()
