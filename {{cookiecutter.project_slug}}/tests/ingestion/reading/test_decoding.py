"""Bytes become text, whatever is said of their encoding."""

import codecs
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.decoding import ExtractionError, charset_of, decode

TEXT = "Grüße, “Welt” 漢字"
WESTERN = "Grüße, “Welt”"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
)
@pytest.mark.parametrize("charset", [None, "utf-8", "no-such-charset", "base64", "ascii"])
def test_what_the_bytes_say_counts(content: bytes, charset: str | None) -> None:
    """A byte order mark, or being UTF-8, is believed over a charset that cannot be right."""
    assert decode(content, charset) == TEXT


def test_the_charset_named_counts() -> None:
    """Text in the charset that was named is read in it."""
    assert decode(TEXT.encode("gb18030"), "gb18030") == TEXT
    assert decode("é".encode(), "gb18030") == "茅"


@pytest.mark.parametrize("charset", [None, "utf-8", "shift_jis", "ascii"])
def test_text_of_no_known_charset_is_western(charset: str | None) -> None:
    """What is neither UTF-8 nor of the charset named is windows-1252, latin-1's superset."""
    assert decode(WESTERN.encode("windows-1252"), charset) == WESTERN


@pytest.mark.parametrize(
    "content",
    [
        b"text\0with NUL",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"\xff\xd8\xff\xe0\x10JFIF",
        b"\x7fELF\x02\x01\x01\x00",
        b"PK\x03\x04\x14\x00\x08\x08",
        "no mark".encode("utf-16-le"),
        codecs.BOM_UTF16_LE + b"\0\0",
    ],
)
def test_binary_files_are_refused(content: bytes) -> None:
    """A picture, a program, an archive is no text, whatever its name; the error says what is."""
    with pytest.raises(ExtractionError, match=r"binary, not text: .*PDF are taken$"):
        decode(content)


def test_colours_of_a_terminal_are_text() -> None:
    """Escapes do not make a log a binary file, also where it is not UTF-8."""
    assert decode("\x1b[31mé".encode("latin-1")) == "\x1b[31mé"


@given(st.binary(), st.none() | st.text() | st.sampled_from(["utf-7", "idna", "hex", "a\0b", ""]))
def test_anything_is_text_or_an_extraction_error(content: bytes, charset: str | None) -> None:
    """No bytes and no charset, however wrong, give another error."""
    with suppress(ExtractionError):
        assert "\0" not in decode(content, charset)


@pytest.mark.parametrize(
    ("media_type", "charset"),
    [
        (None, None),
        ("text/plain", None),
        ("text/plain; charset=UTF-8", "utf-8"),
        ('text/html; a=b; charset="Windows-1252"', "windows-1252"),
    ],
)
def test_the_charset_of_a_media_type(media_type: str | None, charset: str | None) -> None:
    """The parameter is read as in a Content-Type, in any case and with quotes."""
    assert charset_of(media_type) == charset


@given(st.text() | st.text("charset*='%0;=\"\r\n ").map("text/plain;".__add__))
def test_any_media_type_has_a_charset_or_none(media_type: str) -> None:
    """What a client claims is no error, however malformed."""
    charset = charset_of(media_type)
    assert charset is None or isinstance(decode(b"text", charset), str)
