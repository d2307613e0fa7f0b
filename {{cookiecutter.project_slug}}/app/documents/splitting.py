"""Markdown as passages: small enough to embed, whole enough to be understood alone.

The text is cut at the highest boundary that fits: headings, then blocks, then sentences, then
words. Each passage begins with the document's title.

Guarantees: nothing but white space is lost. No passage is empty or longer than LONGEST
characters; in Cyrillic it has about half as many as in English, in Chinese a third. The time is
linear in the length of the text, also for a single line of several megabytes.

Needs: the package semantic-text-splitter.
"""

from collections.abc import Iterator

from semantic_text_splitter import MarkdownSplitter

TEXT = 1200
"""Characters of a passage's text if they are ASCII: about 300 tokens."""
SHORT = 150
"""A text of fewer characters is joined to the next, such as a heading alone."""
LEAD = 200
"""Characters of the title in front of the text."""
LONGEST = LEAD + SHORT + TEXT + 4
"""Characters of a passage, the blank lines between these three included."""
PART = 8 * TEXT
"""About so many bytes are split at once, as the splitter's time is quadratic."""

_BOUNDARIES = ("\n#", "\n\n", "\n", ". ", "。", " ")


def split(markdown: str, *, title: str = "") -> list[str]:
    """Return the passages of a text; none of a blank one."""
    passages, lead, short = [], f"{title[:LEAD]}\n\n" if title else "", ""
    for part in _parts(markdown):
        for text in MarkdownSplitter(_characters(part, TEXT)).chunks(part):
            joined = f"{short}\n\n{text}" if short else text
            short = joined if len(joined) < SHORT else ""
            if not short:
                passages.append(lead + joined)
    return [*passages, lead + short] if short else passages


def _parts(markdown: str) -> Iterator[str]:
    """Cut a text into parts of about PART bytes, each at the highest boundary in it."""
    start = 0
    while start < len(markdown):
        end = start + _characters(markdown[start : start + PART], PART)
        if end < len(markdown):
            found = (markdown.rfind(cut, start, end) for cut in _BOUNDARIES)
            end = next((index + 1 for index in found if index >= 0), end)
        yield markdown[start:end]
        start = end


def _characters(text: str, size: int) -> int:
    """Return how many characters like those of `text` take `size` bytes in UTF-8."""
    return max(1, size * len(text) // len(text.encode()))
