"""Bytes of unsure encoding as text, how much of it is taken, and how a document cannot be read.

Needs the standard library only.
"""

import codecs
import re
from email.message import Message

FALLBACK = "windows-1252"
"""For text that names no charset and is not UTF-8 (WHATWG Encoding: the default in the West)."""

TAKEN = "plain text, Markdown, HTML and PDF are taken"

MAX_TEXT = 4_000_000
"""Bytes of a document's text in UTF-8: a book of 1,500 pages, 4,000 to 6,000 passages.

A store takes them in one step, which for so many takes PostgreSQL half a minute.
"""

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Characters that no text has, but for an escape: it begins a colour."""


class ExtractionError(Exception):
    """The document cannot be read, now or later; the message says why."""

    type = "unreadable_document"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def charset_of(media_type: str | None) -> str | None:
    """Return the charset that a Content-Type names."""
    message = Message()
    message["Content-Type"] = media_type or ""
    return message.get_content_charset()


def decode(content: bytes, charset: str | None = None) -> str:
    """Decode by the byte order mark, else by `charset`, else as UTF-8, else by the fallback.

    A charset that is unknown, or that the bytes are not in, does not count. ExtractionError if
    this is no text at all.
    """
    marked = next((name for bom, name in _BOMS.items() if content.startswith(bom)), None)
    for name in filter(None, (marked, charset, "utf-8")):
        try:
            text = content.decode(name)
        except (LookupError, ValueError):  # no such encoding of text; not of this encoding
            continue
        return _refuse_binary(text, "\0" in text)
    text = content.decode(FALLBACK, "replace")
    return _refuse_binary(text, _CONTROL.search(text) is not None)


def check_length(length: int, what: str = "The document") -> None:
    """Raise ExtractionError for a text of more than MAX_TEXT bytes of UTF-8."""
    if length > MAX_TEXT:
        raise ExtractionError(
            f"{what} has {length:,} bytes of text, and at most {MAX_TEXT:,} are taken: split it "
            "into several documents"
        )


def length_of(text: str) -> int:
    """Count a text's bytes in UTF-8."""
    return len(text.encode("utf-8", "surrogatepass"))


def _refuse_binary(text: str, binary: bool) -> str:
    if binary:
        raise ExtractionError(f"The document is binary, not text: {TAKEN}")
    return text
