"""Documents in each format and encoding: their titles and texts, and what cannot be read."""

# ruff: noqa: RUF001 -- characters that only some encodings have

import codecs

import pytest

from app.documents.extraction import MAX_TEXT, UnreadableError, extract
from tests.documents.parts import pdf

PAGE = b"""<!DOCTYPE html><html><head><title>The  page</title><style>p {}</style>
<script>alert(1)</script></head><body><nav>Home</nav><h1>Heading</h1>
<p>Some <b>text</b>.</p><svg><text>drawn</text></svg></body></html>"""
PAGE_TEXT = "# Heading\n\nSome **text**."


@pytest.mark.parametrize(
    ("content", "media_type", "filename", "title", "text"),
    [
        (b"Hello\nyou", "", "", "Hello", "Hello\nyou"),
        (b"# no Markdown", "text/plain", "dir\\a.b.txt", "a.b", "# no Markdown"),
        (b"# One\n\ntext", "text/markdown", "", "One", "# One\n\ntext"),
        (b"text\n# One", "text/plain", "x.MD", "One", "text\n# One"),
        (b"```\n# no\n```\n# One", "", "x.md", "One", "```\n# no\n```\n# One"),
        (b"A file begins with %PDF-1.7", "text/plain", "x", "x", "A file begins with %PDF-1.7"),
        (b"# One\n\n<p>a", "text/html", "x.md", "One", "# One\n\n<p>a"),
        (b"# " + b"word " * 90, "", "x.md", f"{'word ' * 39}word", f"# {'word ' * 89}word"),
        (b"---\ntitle: 'It''s'\na: b\n---\ntext", "", "x.md", "It''s", "text"),
        (b"---\n\ntitle: no\n\n---\ntext", "", "x.md", "x", "---\n\ntitle: no\n\n---\ntext"),
        (b"a\x1b[1m\x7f\r\nb\rc\x0cd", "", "x", "x", "a[1m\nb\nc\n\nd"),
        (PAGE, "text/html; charset=utf-8", "", "The page", PAGE_TEXT),
        (PAGE, "text/plain", "a.html", "The page", PAGE_TEXT),
        (PAGE, "", "", "The page", PAGE_TEXT),
        (b"<?xml version='1.0'?>\n" + PAGE, "", "", "The page", PAGE_TEXT),
        (b"<h1>One</h1>", "text/html", "a", "One", "# One"),
        (pdf("First.", "", "Third.", title="A guide"), "", "", "A guide", "First.\n\nThird."),
        (pdf("An exam-\nple."), "text/plain", "a.txt", "a", "An example."),
        (pdf("Text.", password=""), "application/pdf", "", "Text.", "Text."),
    ],
)
def test_title_and_text(
    content: bytes, media_type: str, filename: str, title: str, text: str
) -> None:
    """First bytes of a PDF, name, media type, first bytes of HTML: in this order they decide."""
    found_title, found = extract(content, media_type=media_type, filename=filename)
    assert (found_title, found.strip()) == (title, text)


@pytest.mark.parametrize(
    ("content", "media_type", "message"),
    [
        (b" \n\x0c\x07", "text/plain", r"\(text, 4 bytes\) has no text"),
        (b"<html><script>1</script></html>", "", r"html, .*has no text"),
        (b"GIF89a\0\0", "application/octet-stream", "is binary: send plain text"),
        (b"<p>" + b"<div>" * 100_000 + b"deep", "text/html", "nested too deeply"),
        (b"Hello %PDF-1.7\n" + b"garbage\n" * 100, "", r"The PDF cannot be read: .{1,200}"),
        (pdf("Some text.")[:500], "", "The PDF cannot be read"),
        (pdf("Text.", password="secret"), "", "password"),
        (pdf("", ""), "", r"\(pdf, .* has no text: a scan needs text recognition \(OCR\)"),
        (b"a" * (MAX_TEXT + 1), "", r"has 4,000,001 bytes .* 4,000,000 are accepted: split"),
        ("漢".encode() * (MAX_TEXT // 3 + 1), "", "has 4,000,002 bytes"),
    ],
)
def test_unreadable(content: bytes, media_type: str, message: str) -> None:
    """Each kind of document that cannot be read has its own error of one line."""
    with pytest.raises(UnreadableError, match=message) as caught:
        extract(content, media_type=media_type)
    assert len(str(caught.value).splitlines()) == 1


DECLARES = '<html><head>{}<meta charset="{}"><title>{}</title></head><body><p>{}</p></body></html>'
RUSSIAN = "Привет, мир"
UTF8 = RUSSIAN.encode()


def page(label: str, text: str, codec: str) -> bytes:
    """Return a page that declares a label and is written in a Python codec."""
    return DECLARES.format("", label, text, text).encode(codec)


def utf8(before: str) -> bytes:
    """Return a page in UTF-8 with something before its own `<meta>`."""
    return DECLARES.format(before, "utf-8", RUSSIAN, RUSSIAN).encode()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (page("gb2312", "朱镕基谈改革", "gb18030"), "朱镕基谈改革"),
        (page("GBK", "𠮷野家", "gb18030"), "𠮷野家"),
        (page(" Shift_JIS ", "①髙橋", "cp932"), "①髙橋"),
        (page("euc-kr", "똠방각하", "cp949"), "똠방각하"),
        (page("iso-8859-1", "20 € – don’t wait", "windows-1252"), "20 € – don’t wait"),
        (page("ascii", "“é”", "windows-1252"), "“é”"),
        (page("tis-620", "“ไทย”…", "cp874"), "“ไทย”…"),
        (page("koi8-r", RUSSIAN, "koi8-r"), RUSSIAN),
        (page("utf-16", RUSSIAN, "utf-8"), RUSSIAN),
        (page("utf-16", RUSSIAN, "utf-16"), RUSSIAN),
        (page("windows-1251", RUSSIAN, "utf-8-sig"), RUSSIAN),
        (utf8('<script>var u="/a?charset=windows-1251&x=1"</script>'), RUSSIAN),
        (utf8("<script>write('<meta charset=\"windows-1251\">')</script>"), RUSSIAN),
        (utf8('<!-- <meta charset="windows-1251"> -->'), RUSSIAN),
        (utf8('<link data-x=\'<meta charset="windows-1251">\' href="?charset=big5">'), RUSSIAN),
        (utf8('<meta name="type" content="text/html; charset=windows-1251">'), RUSSIAN),
        (utf8("<style>/*<meta charset=koi8-r>*/</style>"), RUSSIAN),
        (utf8("<textarea><meta charset=koi8-r></textarea>"), RUSSIAN),
        (utf8('<meta charset="nonsense">'), RUSSIAN),
        (utf8('<meta charset="utf-8" charset="koi8-r">'), RUSSIAN),
        (utf8("<![broken[x]]>"), RUSSIAN),
        (DECLARES.format("x" * 5000, "koi8-r", "", RUSSIAN).encode("koi8-r"), RUSSIAN),
        (b'<?xml version="1.0" encoding="gb2312"?><html><p>' + "朱镕基".encode("gbk"), "朱镕基"),
        (b"<?xml version='1.0' encoding='gb2312'?>" + page("koi8-r", RUSSIAN, "koi8-r"), RUSSIAN),
        (b'<?xml\nencoding="koi8-r"?><html><p>' + RUSSIAN.encode("koi8-r"), RUSSIAN),
        (b'<html><?xml encoding="koi8-r"?><p>' + UTF8, RUSSIAN),
        (
            b'<html><META content="text/html;charset=\'big5\'; a=b" HTTP-EQUIV="Content-Type"><p>'
            + "漢字".encode("big5"),
            "漢字",
        ),
        (b"<html><p>" + UTF8 + b" \xff", f"{RUSSIAN} \ufffd"),
        (page("gb2312", "改革", "gbk").replace(b"</p>", b"\xff</p>"), "改革\ufffd"),
        (b'<html><meta charset="utf-8"><p>caf\xe9', "caf\ufffd"),
        (b'<html><meta charset="latin1"><p>\xabCAF\xc9\xbb', "«CAFÉ»"),
    ],
)  # fmt: skip
def test_page(content: bytes, text: str) -> None:
    """A page is in the encoding that a real `<meta>` names, else its XML declaration."""
    title, found = extract(content, filename="a.html")
    assert (title in {text.rstrip("\ufffd"), "a"}, found.strip()) == (True, text)


@pytest.mark.parametrize(
    ("content", "charset", "text"),
    [
        (UTF8 * 9 + b" \xff", "", f"{RUSSIAN * 9} \ufffd"),
        ("Grüße, Füße".encode()[:-5] + b"\xc3", "", "Grüße, F\ufffd"),
        (b"don\xef\xbf\xbdt", "", "don\ufffdt"),
        ("20 € – don’t".encode("cp1252"), "", "20 € – don’t"),
        (UTF8, "us-ascii", RUSSIAN),
        (UTF8, "nonsense", RUSSIAN),
        (codecs.BOM_UTF8 + UTF8, "koi8-r", RUSSIAN),
        (codecs.BOM_UTF16_BE + RUSSIAN.encode("utf-16-be"), "", RUSSIAN),
        (codecs.BOM_UTF16_LE + RUSSIAN.encode("utf-16-le"), "latin-1", RUSSIAN),
        (RUSSIAN.encode("utf-16-le"), "utf-16", RUSSIAN),
        ("朱镕基".encode("gbk"), '"GB2312"', "朱镕基"),
        ("“ไทย”".encode("cp874") + b"\xff", "TIS-620", "“ไทย”\ufffd"),
    ],
)
def test_text(content: bytes, charset: str, text: str) -> None:
    """Text is in the transport's charset; without one in UTF-8, if at least half of it is valid.

    A byte order mark counts more; what is not valid is replaced.
    """
    kind = f"text/plain; charset={charset}" if charset else "text/plain"
    assert extract(content, media_type=kind)[1] == text


def test_xml_that_is_text() -> None:
    """XML that is no page is in the encoding that it declares."""
    declaration = b'<?xml version="1.0" encoding="koi8-r"?>'
    assert extract(declaration + RUSSIAN.encode("koi8-r"), filename="a.xml")[1].endswith(RUSSIAN)


def test_transport_comes_before_meta() -> None:
    """What the transport says of a page counts more than the page's own declaration."""
    kind = "text/html; charset=koi8-r"
    content = page("windows-1251", RUSSIAN, "koi8-r")
    assert extract(content, media_type=kind)[0] == RUSSIAN


def test_encoding_that_browsers_refuse() -> None:
    """A page in an encoding that is unsafe to decode has no text, rather than a wrong one."""
    with pytest.raises(UnreadableError, match="has no text"):
        extract(b"~{<:Ky2;VpND~}", media_type="text/plain; charset=hz-gb-2312")
