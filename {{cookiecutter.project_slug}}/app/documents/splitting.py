"""Markdown as passages: small enough to embed, whole enough to be understood alone.

The text is cut at the highest boundary that fits: headings, then blocks, then sentences, then
words. Each passage begins with the title and the headings that it lies under.

Guarantees: nothing but white space is lost. No passage is empty or longer than LONGEST
characters; in Cyrillic it has about half as many as in English, in Chinese a third. The time is
linear in the length of the text, also for a single line of several megabytes.

Needs: the package semantic-text-splitter.
"""

import re
from collections.abc import Iterable, Iterator

from semantic_text_splitter import MarkdownSplitter

TEXT = 1200
"""Characters of a passage's text if they are ASCII: about 300 tokens."""
SHORT = 150
"""A text of fewer characters is joined to the next, such as a heading alone."""
LEAD = 240
"""Characters of the title and the headings in front of the text."""
LONGEST = LEAD + SHORT + TEXT + 4
"""Characters of a passage, the blank lines between these three included."""
PART = 8 * TEXT
"""About so many bytes are split at once, as the splitter's time is quadratic."""

_BOUNDARIES = ("\n#", "\n\n", "\n", ". ", "。", " ")
_MARK = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})|(?P<level>#{1,6})[ \t]+(?P<text>\S.*))",
    re.MULTILINE,
)


def split(markdown: str, *, title: str = "") -> list[str]:
    """Return the passages of a text; none of a blank one."""
    passages = []
    path = [(0, title)]
    following = headings(markdown)
    heading = next(following, None)
    for start, text in _join_short(_texts(markdown)):
        while heading and heading[0] <= start:
            _, level, name = heading
            path = [above for above in path if above[0] < level] + [(level, name)]
            heading = next(following, None)
        lead = " > ".join(dict.fromkeys(name for _, name in path if name))[-LEAD:]
        passages.append(f"{lead}\n\n{text}" if lead else text)
    return passages


def headings(markdown: str) -> Iterator[tuple[int, int, str]]:
    """Yield the offset, level and text of each heading with `#` outside fenced code."""
    fence = ""
    for mark in _MARK.finditer(markdown):
        if mark["fence"]:
            if not fence:
                fence = mark["fence"]
            elif mark["fence"].startswith(fence):
                fence = ""
        elif not fence:
            yield mark.start("level"), len(mark["level"]), mark["text"].strip()


def _texts(markdown: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of the passages, each with its offset; parts end at the highest boundary."""
    start = 0
    while start < len(markdown):
        end = start + _characters(markdown[start : start + PART], PART)
        if end < len(markdown):
            found = (markdown.rfind(cut, start, end) for cut in _BOUNDARIES)
            end = next((index + 1 for index in found if index >= 0), end)
        part = markdown[start:end]
        for offset, text in MarkdownSplitter(_characters(part, TEXT)).chunk_indices(part):
            yield start + offset, text
        start = end


def _characters(text: str, size: int) -> int:
    """Return how many characters like those of `text` take `size` bytes in UTF-8."""
    return max(1, size * len(text) // len(text.encode()))


def _join_short(texts: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join each short text to the next."""
    begin, short = 0, ""
    for start, text in texts:
        begin, joined = (begin, f"{short}\n\n{text}") if short else (start, text)
        if len(joined) >= SHORT:
            yield begin, joined
        short = "" if len(joined) >= SHORT else joined
    if short:
        yield begin, short
