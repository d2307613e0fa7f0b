"""Bytes as text, as browsers decode them: by the WHATWG Encoding standard.

In order of precedence, the encoding is that of the byte order mark, of the transport's charset, of
the first `<meta>` that names one, of the XML declaration. Text without any is UTF-8 if at least
half of what is not ASCII is valid, else windows-1252. What is declared as windows-1252, often a
client's default, is UTF-8 if all of it is valid. Bytes that are not valid become U+FFFD.

Needs: the package webencodings.
"""

from contextlib import suppress
from html.parser import HTMLParser

import webencodings

HEAD = 100_000
"""Bytes of a page in which its encoding is declared."""
OVERRIDDEN = {"utf-16le": "utf-8", "utf-16be": "utf-8", "x-user-defined": "windows-1252"}
"""What holds instead of some encodings that a page declares: HTML standard, 13.2.3.2."""


def decode(content: bytes, *labels: str) -> str:
    """Decode a text by the first of these labels that the standard knows."""
    encoding = next(filter(None, map(webencodings.lookup, labels)), None)
    name = encoding.name if encoding else "windows-1252"
    if name == "windows-1252" and _invalid(content) <= (0 if encoding else 0.5):
        name = "utf-8"
    # Of the two, which the standard decodes alike, Python's "gbk" lacks characters.
    return webencodings.decode(content, "gb18030" if name == "gbk" else name)[0]


def _invalid(content: bytes) -> float:
    """Return the part of what is not ASCII that is not valid UTF-8."""
    text = content.decode("utf-8", "replace")
    invalid = text.count("\ufffd") - content.count("\ufffd".encode())
    return invalid / max(1, len(text) - len(text.encode("ascii", "ignore")))


def declared_encodings(page: bytes) -> list[str]:
    """Return the encodings that a page declares, those of `<meta>` first."""
    declarations = _Declarations()
    with suppress(AssertionError):  # of the parser, at some declarations that are malformed
        declarations.feed(page[:HEAD].decode("latin-1"))
    return declarations.meta + declarations.xml


class _Declarations(HTMLParser):
    """Collects the labels of encodings; the parser knows scripts and comments from tags."""

    # Python before 3.13.6 parses tags in a title.
    CDATA_CONTENT_ELEMENTS = ("script", "style", "textarea", "title")  # type: ignore[misc]

    def __init__(self) -> None:
        super().__init__()
        self.meta: list[str] = []
        self.xml: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in reversed(attrs)}  # the first one counts
        if tag == "meta" and "charset" in given:
            self._add(self.meta, given["charset"])
        elif tag == "meta" and given.get("http-equiv", "").lower() == "content-type":
            _, _, parameter = given.get("content", "").lower().partition("charset")
            self._add(self.meta, parameter.strip(" =\t\"'").partition(";")[0].rstrip(" \"'"))

    def handle_pi(self, data: str) -> None:
        if self.getpos() == (1, 0) and data.split(maxsplit=1)[:1] == ["xml"]:
            declaration = _Declarations()  # its pseudo-attributes are written like a tag's
            declaration.feed(f"<meta {data[3:].replace('encoding', 'charset').rstrip('?')}>")
            self.xml = declaration.meta

    def _add(self, labels: list[str], label: str) -> None:
        if encoding := webencodings.lookup(label):
            labels.append(OVERRIDDEN.get(encoding.name, encoding.name))
