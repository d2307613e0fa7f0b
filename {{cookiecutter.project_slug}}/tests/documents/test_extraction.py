"""Documents in each format: their titles and texts, and what cannot be read."""

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
