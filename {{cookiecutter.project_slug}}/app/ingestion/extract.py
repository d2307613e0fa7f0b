"""A document's bytes as Markdown with a title: plain text, Markdown, HTML and PDF.

What a document is, its first bytes say (PDF), else the ending of its name, else its media type,
else its first bytes again (HTML); what remains is text, if it can be that.

Guarantees: text without control characters, NULs among them, not blank, and of MAX_TEXT bytes at
most, so that its passages are bounded too; anything else is an ExtractionError that says what is
wrong in one line, and stays wrong when tried again. Reading is CPU-bound and its input may be
hostile: do it in a process that can be killed (`reading`).

Needs: `decoding`, `headings`, `pdf`, and the package html-to-markdown.
"""

import re
from collections.abc import Callable
from pathlib import PurePath

from html_to_markdown import ConversionError, ConversionOptions, WarningKind, convert

from .decoding import TAKEN, ExtractionError, charset_of, check_length, decode, length_of
from .headings import headings

LONGEST_TITLE = 200
"""Characters."""

Titled = tuple[str, str]
"""A title, which may be empty, and a text."""

_ENDINGS = {
    ".htm": "html", ".html": "html", ".xhtml": "html", ".md": "markdown", ".markdown": "markdown",
    ".mdx": "markdown", ".pdf": "pdf", ".rst": "text", ".text": "text", ".txt": "text",
}  # fmt: skip
_MEDIA_TYPES = {
    "application/pdf": "pdf", "application/xhtml+xml": "html", "text/html": "html",
    "text/markdown": "markdown", "text/x-markdown": "markdown",
}  # fmt: skip
_UNKNOWN = {"", "application/octet-stream", "application/x-www-form-urlencoded"}
_SNIFFED = 1024
"""Bytes looked at; a PDF's mark may stand anywhere in them (PDF 1.7, appendix H, note 13)."""
_HTML = re.compile(
    rb"(?>\s|\xef\xbb\xbf|<\?xml.*?\?>|<!--.*?-->)*+<(?:!doctype html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
"""Without ways back (`(?>`, `*+`): comments that could end at one of several `-->` have many."""
_FRONT_MATTER = re.compile(
    r"---[ \t]*\n((?:[\w-]+[ \t]*:|#).*\n(?:(?![ \t]*\n).*\n)*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)"
)
"""Without blank lines, lest text between two rules be taken for it."""
_TITLE = re.compile(r"^title[ \t]*:(.+)$", re.MULTILINE)
_QUOTED = re.compile(r"""(["'])(.*)\1""")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_PAGE = ConversionOptions(
    exclude_selectors=["svg", "iframe"], inline_data_media="alt_text_only", compact_tables=True
)


def extract(
    content: bytes, *, media_type: str | None = None, filename: str | None = None
) -> Titled:
    """Return the title and the Markdown of a document; ExtractionError if there is none.

    `media_type` is as in a Content-Type, its parameters included. A document without a title has
    that of its file, or its first words.
    """
    kind = _kind(content, media_type, filename)
    title, text = _READERS[kind](content, charset_of(media_type))
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n"))
    check_length(length_of(text))
    if not text.strip():
        raise ExtractionError(f"The document ({kind}, {len(content)} bytes) has no text")
    name = PurePath((filename or "").replace("\\", "/")).stem
    return _one_line(title) or _one_line(name) or _one_line(text.strip().split("\n", 1)[0]), text


def _kind(content: bytes, media_type: str | None, filename: str | None) -> str:
    """Say what a document is: a key of the readers."""
    ending = PurePath(filename or "").suffix.lower()
    essence = (media_type or "").split(";", 1)[0].strip().lower()
    if b"%PDF-" in content[:_SNIFFED]:
        return "pdf"
    kind = _ENDINGS.get(ending) or _MEDIA_TYPES.get(essence)
    if kind == "pdf":
        raise ExtractionError("The document is said to be a PDF, but has no %PDF- at its beginning")
    if kind:
        return kind
    if essence not in _UNKNOWN and not essence.startswith("text/"):
        raise ExtractionError(f"A document of type {essence} cannot be read: {TAKEN}")
    return "html" if essence in _UNKNOWN and _HTML.match(content[:_SNIFFED]) else "text"


def _plain(content: bytes, charset: str | None) -> Titled:
    return "", decode(content, charset)


def _markdown(content: bytes, charset: str | None) -> Titled:
    """Take the front matter off; the title is from there, else from the first heading."""
    text = decode(content, charset).replace("\r\n", "\n")
    title, text = _front_matter(text)
    return title or next((heading.text for heading in headings(text)), ""), text


def _html(content: bytes, charset: str | None) -> Titled:
    """Take the text of a page: scripts, styles, navigation and forms dropped."""
    text = decode(content, charset or _declared(content))
    try:
        page = convert(text, _PAGE)
    except ConversionError as error:
        raise ExtractionError(f"The HTML cannot be read: {_one_line(str(error))}") from error
    if any(warning.kind == WarningKind.DEPTH_LIMIT_EXCEEDED for warning in page.warnings):
        raise ExtractionError("The HTML is nested too deeply to be read")
    _, text = _front_matter(page.content or "")
    return page.metadata.document.title or next(
        (heading.text for heading in headings(text)), ""
    ), text


def _pdf(content: bytes, _charset: str | None) -> Titled:
    from .pdf import read_pdf  # noqa: PLC0415 -- half a second, for those who read PDFs

    return read_pdf(content)


_READERS: dict[str, Callable[[bytes, str | None], Titled]] = {
    "text": _plain, "markdown": _markdown, "html": _html, "pdf": _pdf,
}  # fmt: skip


def _declared(content: bytes) -> str | None:
    """Return the charset that an HTML or XML document names itself."""
    named = re.search(
        rb"""(?:charset|encoding)\s*=\s*["']?([\w.:-]+)""", content[:_SNIFFED], re.IGNORECASE
    )
    return named[1].decode("ascii", "replace") if named else None


def _front_matter(text: str) -> Titled:
    """Return the title in a text's YAML front matter, and the text without it."""
    found = _FRONT_MATTER.match(text)
    if not found:
        return "", text
    title = _TITLE.search(found[1])
    bare = title[1].strip() if title else ""
    quoted = _QUOTED.fullmatch(bare)
    return (quoted[2] if quoted else bare), text[found.end() :]


def _one_line(text: str) -> str:
    return " ".join(_CONTROL.sub("", text).split())[:LONGEST_TITLE].rstrip()
