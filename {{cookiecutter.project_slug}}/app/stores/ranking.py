"""What the stores' searches have in common: the words of a text, and how rankings are fused.

Each database fuses its ranking by vectors with that by words in its own query.

Words are found whatever their case, accents or width, and in languages without spaces: as in
Lucene's CJK analyzer, runs of Chinese, Japanese and Korean characters become their overlapping
pairs. Other scripts without spaces (Thai, Lao, Khmer, Burmese) are not split.

Needs the standard library only.
"""

import re
import unicodedata

CANDIDATES = 50
"""Passages that each ranking contributes, at least."""
RRF_K = 60
"""Reciprocal rank fusion: at rank r of a ranking a passage scores 1 / (RRF_K + r)."""
MAX_CHARACTERS = 100_000
"""Of a passage, to be found by its words; PostgreSQL refuses to index much more."""
MAX_QUESTION = 10_000
MAX_QUESTION_WORDS = 32
"""Of the words of a question the longest, which tend to be the rarest."""

_WORD = re.compile(r"[^\W_]+")
_ACCENT = re.compile("[\u0300-\u036f]")
_CJK = re.compile(
    "["
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"  # Han
    "\u1100-\u11ff\uac00-\ud7af"  # Hangul
    "]+"
)


def storable(text: str) -> str:
    """Replace NUL and lone surrogates, which not every database can keep, by U+FFFD."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:  # as UTF-16, so that two surrogates that are a pair become one
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def words(text: str) -> list[str]:
    """Return the words of a passage, in order, in the form in which they are indexed."""
    text = unicodedata.normalize("NFKD", storable(text[:MAX_CHARACTERS]).casefold())
    text = unicodedata.normalize("NFKC", _ACCENT.sub("", text))
    return _WORD.findall(_CJK.sub(_pairs, text))


def question_words(question: str) -> list[str]:
    """Return the distinct words to look for, the longest first, at most MAX_QUESTION_WORDS."""
    distinct = dict.fromkeys(words(question[:MAX_QUESTION]))
    return sorted(distinct, key=len, reverse=True)[:MAX_QUESTION_WORDS]


def _pairs(run: re.Match[str]) -> str:
    characters = run[0]
    pairs = (characters[i : i + 2] for i in range(max(1, len(characters) - 1)))
    return f" {' '.join(pairs)} "
