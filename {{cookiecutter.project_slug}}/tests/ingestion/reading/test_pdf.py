"""PDFs: their text and title, or why there is none."""

import re
import zlib

import pytest
from fpdf import FPDF
from fpdf.enums import AccessPermission, EncryptionMethod

from app.ingestion.decoding import MAX_TEXT, ExtractionError
from app.ingestion.pdf import read_pdf

METHODS = (EncryptionMethod.RC4, EncryptionMethod.AES_128, EncryptionMethod.AES_256)


def pdf(
    *pages: str,
    title: str = "",
    password: str | None = None,
    method: EncryptionMethod = EncryptionMethod.AES_256,
) -> bytes:
    """Write a PDF of these pages; an empty password encrypts it, but opens."""
    document = FPDF()
    document.set_font("helvetica", size=12)
    document.set_title(title)
    for page in pages:
        document.add_page()
        document.multi_cell(0, text=page)
    if password is not None:
        document.set_encryption("owner", password, method, permissions=AccessPermission.none())
    return bytes(document.output())


def bomb(pages: int, characters: int) -> bytes:
    """Write a PDF whose pages share one text, of a font with 200 characters to each letter."""
    unpacked = (
        b"BT /F 12 Tf 10 700 Td (%s) Tj ET" % (b"A" * (characters // 200)),
        b"1 begincodespacerange <00> <FF> endcodespacerange "
        b"1 beginbfchar <41> <%s> endbfchar" % (b"0061" * 200),
    )
    kids = b" ".join(b"%d 0 R" % number for number in range(6, 6 + pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] /MediaBox [0 0 600 800] >>" % (pages, kids),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 5 0 R >>",
        *[
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)
            for packed in map(zlib.compress, unpacked)
        ],
        *[b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F 3 0 R >> >> >>"]
        * pages,
    ]
    written = (b"%d 0 obj\n%s\nendobj\n" % numbered for numbered in enumerate(objects, 1))
    return b"%PDF-1.4\n" + b"".join(written) + b"trailer << /Root 1 0 R >>\nstartxref\n0\n%%EOF"


def test_pages_are_in_order_with_the_title() -> None:
    """The text of each page comes with blank lines between, empty pages left out."""
    content = pdf("First page.", "", "Third page.", title="A guide")
    assert read_pdf(content) == ("A guide", "First page.\n\nThird page.")


def test_no_title_is_an_empty_one() -> None:
    """A PDF that names no title is not an error."""
    assert read_pdf(pdf("Text.")) == ("", "Text.")


@pytest.mark.parametrize("method", METHODS)
def test_a_pdf_that_opens_without_password_is_read(method: EncryptionMethod) -> None:
    """Encryption that only forbids printing or copying is no hindrance."""
    assert read_pdf(pdf("Text.", password="", method=method))[1] == "Text."


def test_a_pdf_with_a_password_says_so() -> None:
    """The user learns that it is the password, not a broken file."""
    with pytest.raises(ExtractionError, match="needs a password"):
        read_pdf(pdf("Text.", password="secret"))


def test_a_scan_says_so() -> None:
    """Pages without text are an error that names their number and what helps."""
    with pytest.raises(ExtractionError, match=r"no text on its 2 pages.*OCR"):
        read_pdf(pdf("", ""))


@pytest.mark.parametrize("part", [0.01, 0.3, 0.5, 0.9])
def test_a_pdf_cut_short_is_one_clear_error_or_read(part: float) -> None:
    """What pypdf can repair is read; for the rest there is one line, of one type."""
    content = pdf(*["Some text that is long enough."] * 5)
    try:
        _, text = read_pdf(content[: int(len(content) * part)])
    except ExtractionError as error:
        text = str(error)
    assert re.match(r"Some text that is long enough|The PDF .*$", text)


def test_no_pdf_at_all_is_broken() -> None:
    """The reason is on one line and short, though the file may speak in it."""
    with pytest.raises(ExtractionError, match=r"^The PDF is broken: \w+: .{1,200}$"):
        read_pdf(b"%PDF-1.7\n" + b"garbage\n" * 10_000)


def test_pages_are_read_up_to_the_bound() -> None:
    """A small file of many pages costs what its text may have, not what it would have."""
    content = bomb(pages=300, characters=MAX_TEXT // 5)
    assert len(content) < 50_000
    with pytest.raises(ExtractionError, match=r"^The PDF, up to page 6 of 300, .*4,000,000 .*"):
        read_pdf(content)
