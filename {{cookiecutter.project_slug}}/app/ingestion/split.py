"""Markdown as passages: small enough to embed, whole enough to be understood alone.

The text is cut at the highest boundary that fits: headings, then blocks, then sentences, then
words (by `semantic-text-splitter`), and neighbours are merged up to the limit. Each passage
begins with the title and the headings that it lies under.

Guarantees: nothing but white space is lost, at the edges of passages and where more than two
lines in a row are blank. No passage is empty, nor,
by `estimate`, above `max_tokens`. A word is cut only where it alone is too long. The time is
linear in the length of the text, also for one of a single line: the splitter itself is not (a
line of 320,000 Chinese characters without a full stop takes it 25 s), so it gets the text in
parts of about five passages each.

Needs: `headings`, and the package semantic-text-splitter.
"""

import re
from collections.abc import Callable, Iterator

from semantic_text_splitter import MarkdownSplitter

from .headings import Outline

MAX_TOKENS = 400
OVERLAP = 40
"""Tokens at a passage's end that the next begins with again, where they are a whole sentence."""
SMALLEST_MAX_TOKENS = 50
LEAD_SHARE = 5
"""The headings may take one token in so many."""
PART = 5
"""Passages that a part given to the splitter has room for, ..."""
LONGEST_TOKEN = 4
"""... at no more than so many characters a token."""

Estimate = Callable[[str], int]

_BOUNDARIES = tuple(
    re.compile(boundary)
    for boundary in (
        r"\n(?=#{1,6} )",
        r"\n[ \t]*\n",
        r"\n",
        r"[.!?][\"')\]]*\s+|[\u3002\uff01\uff1f]",
        r"\s",
    )
)
_BLANK = re.compile(r"[\r\n](?:[^\S\r\n]*[\r\n]){3,}")
"""Each length of these is a level of its own to the splitter, and costs it more than the last."""
_OPENS = re.compile(
    r"(?:\s*+(?:#{1,6}[ \t][^\n]*|[^\n#]+\n(?:=+|-+)[ \t]*(?=\n|\Z)))*+\s*(?:(?:```|~~~)[^\n]*\s*)?"
)
"""Headings, and the fence of code that begins under them, without what they announce.

Without ways back (`*+`): each line that reads as either kind of heading would double them.
"""


def estimate_text(text: str) -> int:
    """Guess tokens by length: four ASCII characters or three other bytes of UTF-8 each."""
    plain = len(text.encode("ascii", "ignore"))
    other = len(text.encode("utf-8", "surrogatepass")) - plain
    return -(-plain // 4) - (-other // 3)


def split(
    markdown: str,
    *,
    title: str = "",
    max_tokens: int = MAX_TOKENS,
    overlap: int = OVERLAP,
    estimate: Estimate = estimate_text,
) -> list[str]:
    """Return the passages of a text; none of a blank one.

    ValueError if there is no room for text: `max_tokens` must be at least 50, and the overlap
    less than half of it.
    """
    if max_tokens < SMALLEST_MAX_TOKENS or not 0 <= overlap < max_tokens // 2:
        raise ValueError(
            f"max_tokens is {max_tokens} and overlap {overlap}: expected at least "
            f"{SMALLEST_MAX_TOKENS}, and from 0 to less than half of it"
        )
    room = max_tokens // LEAD_SHARE
    splitter = MarkdownSplitter.from_callback(estimate, max_tokens - room, overlap)
    markdown = _BLANK.sub("\n\n\n", markdown)
    outline = Outline(markdown)
    passages: list[str] = []
    alone = ""  # the last passage, if it only opens what is in the next
    for start, part in _parts(markdown, PART * max_tokens, estimate):
        for offset, text in splitter.chunk_indices(part):
            path = [title, *outline.path(start + offset)]
            passage = f"{_lead(path, room, estimate)}{text}"
            if alone and estimate(joined := f"{alone}\n\n{text}") <= max_tokens:
                passages[-1] = passage = joined
            else:
                passages.append(passage)
            alone = passage if _OPENS.fullmatch(text) else ""
    return passages


def _parts(text: str, tokens: int, estimate: Estimate) -> Iterator[tuple[int, str]]:
    """Cut a text into parts of about so many tokens, at the highest boundary in reach."""
    start = 0
    while start < len(text):
        reach = text[start : start + LONGEST_TOKEN * tokens]
        size = max(1, min(len(reach), len(reach) * tokens // max(1, estimate(reach))))
        end = start + size
        if end < len(text):
            end = _boundary(text, start + size // 2, end)
        yield start, text[start:end]
        start = end


def _boundary(text: str, start: int, end: int) -> int:
    """Return where the last of the highest boundaries ends, or `end` if there is none."""
    for boundary in _BOUNDARIES:
        ends = [found.end() for found in boundary.finditer(text, start, end)]
        if ends:
            return ends[-1]
    return end


def _lead(path: list[str], room: int, estimate: Estimate) -> str:
    """Join the headings that a passage lies under: of too many, the innermost that fit."""
    distinct = [text for text in dict.fromkeys(path) if text]
    while distinct:
        lead = f"{' > '.join(distinct)}\n\n"
        if estimate(lead) < room:
            return lead
        distinct.pop(0)
    return ""
