"""A document's bytes as Markdown with a title."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.decoding import MAX_TEXT, ExtractionError
from app.ingestion.extract import LONGEST_TITLE, extract
from tests.ingestion.reading.test_pdf import pdf

PAGE = b"""<!-- a --><!-- b --><!DOCTYPE html><html><head><title>The  page</title>
<style>p {}</style><script>alert(1)</script></head><body><nav>Home</nav>
<h1>Heading</h1><p>Some <b>text</b>.</p><svg><text>drawn</text></svg></body></html>"""


@pytest.mark.parametrize(
    ("content", "media_type", "filename", "title", "text"),
    [
        (b"Hello", "text/plain", "notes.txt", "notes", "Hello"),
        (b"Hello\nyou", None, None, "Hello", "Hello\nyou"),
        (b"# not Markdown", "text/plain", "dir\\a.b.txt", "a.b", "# not Markdown"),
        (b"# One\n\ntext", "text/markdown", None, "One", "# One\n\ntext"),
        (b"text\n# One", "text/plain", "x.MD", "One", "text\n# One"),
        (b"---\ntitle: 'It''s'\na: b\n---\ntext", None, "x.md", "It''s", "text"),
        (b"---\r\ntitle: A: b\r\n---\r\ntext", None, "x.md", "A: b", "text"),
        (b"---\n\ntitle: no\n\n---\ntext", None, "x.md", "x", "---\n\ntitle: no\n\n---\ntext"),
        (b"Hello", "application/octet-stream", "x.docx", "x", "Hello"),
    ],
)
def test_text_and_markdown(
    content: bytes, media_type: str | None, filename: str | None, title: str, text: str
) -> None:
    """The name's ending counts before the media type; the title is the document's own, if any."""
    assert extract(content, media_type=media_type, filename=filename) == (title, text)


@pytest.mark.parametrize(
    ("media_type", "filename"),
    [("text/html; charset=utf-8", None), ("text/plain", "a.html"), (None, None)],
)
def test_html_is_its_text(media_type: str | None, filename: str | None) -> None:
    """Scripts, styles, navigation and drawings are left out; bytes can say that they are HTML."""
    title, text = extract(PAGE, media_type=media_type, filename=filename)
    assert (title, text.strip()) == ("The page", "# Heading\n\nSome **text**.")


def test_html_is_in_the_charset_that_it_names() -> None:
    """A page's own declaration counts where the media type has none."""
    page = '<meta charset="shift_jis"><p>漢字</p>'.encode("shift_jis")
    assert extract(page, media_type="text/html")[1].strip() == "漢字"
    assert extract("<p>漢字</p>".encode("utf-16"), media_type="text/html")[1].strip() == "漢字"


def test_a_pdf_is_known_by_its_bytes() -> None:
    """Whatever its name and type say, and not without them."""
    assert extract(pdf("Text."), media_type="text/plain", filename="a.txt") == ("a", "Text.")
    with pytest.raises(ExtractionError, match="said to be a PDF"):
        extract(b"Hello", media_type="application/pdf")


@pytest.mark.parametrize(
    ("content", "media_type", "words"),
    [
        (b" \n\x0c\x07", "text/plain", r"text, 4 bytes\) has no text"),
        (b"", None, "has no text"),
        (b"<html><script>1</script></html>", None, "html, .*has no text"),
        (b"{}", "application/json", "type application/json cannot be read"),
        (b"GIF89a\0\0", "application/octet-stream", "binary"),
        (b"<p>" + b"<div>" * 100_000 + b"deep", "text/html", "nested too deeply"),
    ],
)
def test_what_has_no_text_says_so(content: bytes, media_type: str | None, words: str) -> None:
    """Blank, foreign, binary and hostile documents each have an error of their own, of one line."""
    with pytest.raises(ExtractionError, match=words) as caught:
        extract(content, media_type=media_type)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("letter", ["a", "漢"])
@pytest.mark.parametrize("kind", ["plain", "markdown", "html"])
def test_a_text_that_is_too_long_says_so(letter: str, kind: str) -> None:
    """The bound is on the bytes of the text, whatever it comes from; the error says what helps."""
    text = letter * ((MAX_TEXT - 3) // len(letter.encode()))
    assert len(extract(text.encode(), media_type=f"text/{kind}")[1].strip()) == len(text)
    with pytest.raises(ExtractionError, match=r"has 4,000,\d+ bytes .* 4,000,000 .*: split it"):
        extract(f"{text}{letter * 4}".encode(), media_type=f"text/{kind}")


def test_comments_are_looked_through_once() -> None:
    """Bytes that begin like HTML a hundred times cost no more than their length."""
    content = b"<!---->" * 140
    assert extract(content)[1] == content.decode()


def test_control_characters_are_taken_out() -> None:
    """Lines end in a newline, and nothing that a store or a terminal would choke on is left."""
    assert extract(b"a\x1b[1m\x7f\r\nb\rc\x0cd")[1] == "a[1m\nb\nc\n\nd"


def test_a_title_is_one_line_of_bounded_length() -> None:
    """However long the first words are."""
    title, _ = extract(b"# a\tb" + b" word" * 90 + b"\n", media_type="text/markdown")
    assert title.startswith("a b word")
    assert len(title) <= LONGEST_TITLE


HTML_LIKE = st.text("<>!-/=\"'&;: \n#phtmlbodya\0")


@given(
    st.binary() | (st.text() | HTML_LIKE).map(str.encode),
    st.sampled_from([None, "text/html", "text/markdown", "text/plain", "application/pdf", "a/b"]),
    st.none() | st.text() | st.sampled_from(["a.html", "a.md", "a.pdf"]),
)
def test_anything_is_a_document_or_an_extraction_error(
    content: bytes, media_type: str | None, filename: str | None
) -> None:
    """A document has a title of one line and a text that is not blank; the error one line."""
    try:
        title, text = extract(content, media_type=media_type, filename=filename)
    except ExtractionError as error:
        title = text = str(error)
    assert title == " ".join(title.split())
    assert text.strip()
    assert not set(text) & {"\0", "\r", "\x1b"}
    text.encode()
