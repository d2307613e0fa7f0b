"""The headings of a Markdown text, and under which of them a place in it lies.

Both kinds of CommonMark's headings count (`# Title`, and a line of text underlined by `===` or
`---`), those in fenced code do not. Read line by line, in linear time.

Needs the standard library only.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*))?$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_NO_PARAGRAPH = re.compile(r"\s*$|\s{4,}|\s*(?:[-*+>|]|\d+[.)]\s)|\s{0,3}#{1,6}(?:\s|$)")
"""Lines under which `---` is no underline: a rule, a table, another block."""
LONGEST = 500
"""Characters of a heading; a longer line is text that looks like one."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading that starts at `offset`; level 1 is the highest."""

    offset: int
    level: int
    text: str


def headings(markdown: str) -> Iterator[Heading]:
    """Yield the headings of a text in order."""
    fence = ""
    offset, above = 0, ""
    for line in markdown.splitlines(keepends=True):
        bare = line.rstrip() if len(line) <= LONGEST else ""
        opened = _FENCE.match(bare)
        if fence:
            closing = opened and opened[1].startswith(fence) and not bare[opened.end() :].strip()
            fence = "" if closing else fence
            bare = ""
        elif opened:
            fence, bare = opened[1], ""
        elif heading := _heading(bare, above, offset, offset - len(above)):
            yield heading
        offset, above = offset + len(line), line if bare else ""


def _heading(line: str, above: str, offset: int, offset_above: int) -> Heading | None:
    if found := _ATX.match(line):
        return Heading(offset, len(found[1]), re.sub(r"[ \t]+#+$|^#+$", "", found[2] or "").strip())
    if (found := _SETEXT.match(line)) and not _NO_PARAGRAPH.match(above):
        return Heading(offset_above, 1 if found[1][0] == "=" else 2, above.strip())
    return None


class Outline:
    """Answers which headings a place lies under, in logarithmic time."""

    def __init__(self, markdown: str) -> None:
        self._offsets: list[int] = []
        self._paths: list[tuple[Heading, ...]] = [()]
        for heading in headings(markdown):
            above = (over for over in self._paths[-1] if over.level < heading.level)
            self._offsets.append(heading.offset)
            self._paths.append((*above, heading))

    def path(self, offset: int) -> list[str]:
        """Return the headings above a place, outermost first.

        Where a heading begins, that is those it lies under itself.
        """
        index = bisect_left(self._offsets, offset)
        path = self._paths[index]
        if index < len(self._offsets) and self._offsets[index] == offset:
            path = tuple(over for over in path if over.level < self._paths[index + 1][-1].level)
        return [heading.text for heading in path if heading.text]
