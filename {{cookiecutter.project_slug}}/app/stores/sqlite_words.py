"""Words for SQLite's FTS5, in languages with and without spaces between them.

FTS5's own tokenizers either take a whole Chinese or Japanese sentence for one word (`unicode61`)
or cannot find words of two characters (`trigram`). So the text comes with spaces between its
words, and `unicode61` does everything else: case and accents make no difference. `porter` then
reduces English words to their stems. Not covered: stems of other languages.

Needs `words` beside it.
"""

import re

from .words import spaced

TOKENIZER = "porter unicode61 remove_diacritics 2"
MAX_WORDS = 32
"""Of a question: each costs time."""

_WORD = re.compile(r"\w+")


def distinct_words(question: str) -> list[str]:
    """Return the words to look for; of too many the longest, which tend to be the rarest."""
    words = dict.fromkeys(word.lower() for word in _WORD.findall(spaced(question)))
    return sorted(words, key=len, reverse=True)[:MAX_WORDS]
