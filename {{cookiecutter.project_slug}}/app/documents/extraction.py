"""A document's bytes as Markdown with a title: plain text, Markdown, HTML and PDF.

Guarantees: the text is not blank, has no control characters and at most MAX_TEXT bytes; a
document without such a text is an UnreadableError. The work is CPU-bound and the input may be
hostile, so run it in a process that can be killed, as `reading` does.

Needs: the packages html-to-markdown, pypdfium2 and webencodings.
"""

import re
from contextlib import closing
from email.message import Message
from pathlib import PurePath

from html_to_markdown import ConversionOptions, WarningKind, convert

from app.errors import ServiceError

from .decoding import declared_encodings, decode

MAX_TEXT = 4_000_000
"""Bytes of a document's text in UTF-8: a book of 1,500 pages, about 3,500 passages."""
LONGEST_TITLE = 200

_KINDS = {
    ".htm": "html", ".html": "html", ".xhtml": "html", ".md": "markdown", ".markdown": "markdown",
    ".mdx": "markdown", ".rst": "text", ".txt": "text", "application/xhtml+xml": "html",
    "text/html": "html", "text/markdown": "markdown",
}  # fmt: skip
_SNIFFED = 1024
"""Bytes; a PDF's mark may stand anywhere in them (PDF 1.7, appendix H, note 13)."""
_HTML = re.compile(rb"\s*(<\?xml[^>]*>\s*)?<(!doctype html|html|head|body)\b", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_FRONT_MATTER = re.compile(r"---[ \t]*\n[\w-]+[ \t]*:.*\n(?:.+\n)*?---[ \t]*(?:\n|\Z)")
"""Without blank lines, so that text between two rules is not taken for it."""
_TITLE = re.compile(r"^title[ \t]*:(.+)", re.MULTILINE)
_FENCED = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(\S.*)", re.MULTILINE)
_PAGE = ConversionOptions(
    exclude_selectors=["svg", "iframe"], inline_data_media="alt_text_only", compact_tables=True
)


class UnreadableError(ServiceError):
    """The document cannot be read, now or later; the message says why."""

    type = "unreadable_document"
    permanent = True


def extract(content: bytes, *, media_type: str = "", filename: str = "") -> tuple[str, str]:
    """Return the title and the Markdown of a document.

    `media_type` is a Content-Type with its parameters. A document without a title of its own
    gets the name of its file, or its first line.
    """
    header = Message()
    header["Content-Type"] = media_type or "application/octet-stream"
    charset = header.get_content_charset("")
    kind, title = _kind(content, header.get_content_type(), filename), ""
    if kind == "pdf":
        title, text = _pdf(content)
    else:
        declares = kind == "html" or content.startswith(b"<?xml")
        declared = declared_encodings(content) if declares else []
        text = decode(content, charset, *declared).replace("\r\n", "\n")
        if "\0" in text:
            raise UnreadableError("The document is binary: send plain text, Markdown, HTML or PDF")
        if kind != "text":
            title, text = _html(text) if kind == "html" else _titled(text)
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n"))
    if not text.replace("\ufffd", "").strip():
        scan = ": a scan needs text recognition (OCR) first" if kind == "pdf" else ""
        raise UnreadableError(f"The document ({kind}, {len(content):,} bytes) has no text{scan}")
    if (length := len(text.encode())) > MAX_TEXT:
        raise UnreadableError(
            f"The document has {length:,} bytes of text, and at most {MAX_TEXT:,} are accepted: "
            "split it into several documents"
        )
    name = PurePath(filename.replace("\\", "/")).stem
    return _one_line(title) or _one_line(name) or _one_line(text.strip().split("\n", 1)[0]), text


def _kind(content: bytes, media_type: str, filename: str) -> str:
    """Tell a document by its bytes (PDF), else its name, its media type, its bytes (HTML)."""
    # Text may be about PDFs.
    if b"%PDF-" in content[: len("%PDF-") if media_type.startswith("text/") else _SNIFFED]:
        return "pdf"
    known = _KINDS.get(PurePath(filename).suffix.lower()) or _KINDS.get(media_type)
    sniffed = "html" if _HTML.match(content) and not media_type.startswith("text/") else "text"
    return known or sniffed


def _html(text: str) -> tuple[str, str]:
    """Convert a page: scripts, styles, navigation and forms are dropped."""
    page = convert(text, _PAGE)
    if any(warning.kind == WarningKind.DEPTH_LIMIT_EXCEEDED for warning in page.warnings):
        raise UnreadableError("The HTML is nested too deeply to be read")
    title, text = _titled(page.content or "")
    return page.metadata.document.title or title, text


def _titled(text: str) -> tuple[str, str]:
    """Return the title in the front matter, else the first heading; and the text behind it."""
    title = None
    if front_matter := _FRONT_MATTER.match(text):
        title = _TITLE.search(front_matter[0])
        text = text[front_matter.end() :]
    title = title or _HEADING.search(_FENCED.sub("", text))
    return (title[1].strip().strip("\"'") if title else ""), text


def _pdf(content: bytes) -> tuple[str, str]:
    """Return the title and the pages' texts; words hyphenated at the end of a line are joined."""
    import pypdfium2  # type: ignore[import-untyped]  # noqa: PLC0415 -- 80 ms, only for PDFs

    pages: list[str] = []
    try:
        with pypdfium2.PdfDocument(content) as document:
            title: str = document.get_metadata_value("Title")
            for page in document:
                with closing(page), closing(page.get_textpage()) as characters:
                    pages.append(characters.get_text_bounded().strip())
    except pypdfium2.PdfiumError as error:
        raise UnreadableError(f"The PDF cannot be read: {_one_line(str(error))}") from error
    return title, "\n\n".join(filter(None, pages))


def _one_line(text: str) -> str:
    return " ".join(_CONTROL.sub("", text).split())[:LONGEST_TITLE].rstrip()
