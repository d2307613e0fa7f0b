"""What was found, cut to a budget of tokens.

The best come first. Each is taken whole if it fits into what is left, else left out; but as
long as nothing is taken yet, it is cut: at the end of a sentence if one fits, else of a word, else
anywhere. So the budget is never passed, and the result is empty only where not a
single character of anything fits.

Needs: `protocol.py` beside it.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import replace

from .protocol import Found

Estimate = Callable[[str], int]
"""The tokens of a text; of a longer text not fewer."""

SENTENCE_END = re.compile(
    r"[.!?…][\"'”’»)\]]*(?=\s)|[。！？][”’」』）]*|\S(?=\s*\n\s*\n)"  # noqa: RUF001 -- Chinese
)
WORD_END = re.compile(r"\S(?=\s)")
CHARACTER = re.compile(r"\S")


def fit(found: Iterable[Found], *, budget: int, estimate: Estimate) -> list[Found]:
    """Return what fits into `budget` tokens, in the order given.

    The estimate runs right here, some dozen times: with a slow one (a tokenizer), call this off
    the event loop.
    """
    fitting: list[Found] = []
    for whole in found:
        one: Found | None = whole
        if cost_of(whole, estimate) > budget:
            one = None if fitting else _cut(whole, budget, estimate)
        if one is not None:
            fitting.append(one)
            budget -= cost_of(one, estimate)
    return fitting


def cost_of(found: Found, estimate: Estimate) -> int:
    """Return the tokens of title, URL and text; what a prompt writes around them comes on top."""
    return estimate("\n".join((found.title, found.url or "", found.text)))


def _cut(found: Found, budget: int, estimate: Estimate) -> Found | None:
    """Return the longest beginning that fits; None if none does."""

    def cut(end: int) -> Found:
        return replace(found, text=found.text[:end])

    for kind in (SENTENCE_END, WORD_END, CHARACTER):
        ends = [match.end() for match in kind.finditer(found.text)]
        fitting = bisect_right(ends, budget, key=lambda end: cost_of(cut(end), estimate))
        if fitting:
            return cut(ends[fitting - 1])
    return None
