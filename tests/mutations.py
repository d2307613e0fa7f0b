"""Small changes that break a rule, and the tests that must notice them; see test_mutations.py."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """In the file `path`, `old` becomes `new`; then `rule` does not hold and `tests` must fail."""

    rule: str
    path: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        return self.rule
