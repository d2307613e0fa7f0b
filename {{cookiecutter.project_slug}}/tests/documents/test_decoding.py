"""The encoding of text and pages: bytes, and the title and passage that they become."""

# ruff: noqa: RUF001 -- characters that only some encodings have

import codecs

import pytest

from app.documents.extraction import UnreadableError, extract

PAGE = '<html><head>{}<meta charset="{}"><title>{}</title></head><body><p>{}</p></body></html>'
RUSSIAN = "Привет, мир"
UTF8 = RUSSIAN.encode()


def page(label: str, text: str, codec: str) -> bytes:
    """Return a page that declares a label and is written in a Python codec."""
    return PAGE.format("", label, text, text).encode(codec)


def utf8(before: str) -> bytes:
    """Return a page in UTF-8 with something before its own `<meta>`."""
    return PAGE.format(before, "utf-8", RUSSIAN, RUSSIAN).encode()


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
        (PAGE.format("x" * 5000, "koi8-r", "", RUSSIAN).encode("koi8-r"), RUSSIAN),
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
