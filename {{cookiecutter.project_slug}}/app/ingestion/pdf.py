"""The text of a PDF, page by page.

Only what is there as text is read: a scan has none. Tables and columns come out as their lines
stand in the file, which is mostly the order of reading.

pypdf bounds what single streams unpack to; the whole is left at the page with which it has more
than MAX_TEXT bytes of text, as pages may share a stream. Neither bounds the time or memory: read
what comes from others in a process with limits (`reading`).

Needs: `decoding`, and the package pypdf (with `cryptography` for files encrypted by AES).
"""

from collections.abc import Iterator
from io import BytesIO

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError

from .decoding import ExtractionError, check_length, length_of

LONGEST_REASON = 200
"""Characters of what pypdf says, which may have any of the file in it."""


def read_pdf(content: bytes) -> tuple[str, str]:
    """Return the title, which may be empty, and the pages' texts with blank lines between.

    ExtractionError if the file is broken, needs a password, or has no text or too much.
    """
    try:
        reader = PdfReader(BytesIO(content))
        pages = list(_pages(reader))
        title = reader.metadata.title if reader.metadata else None
    except (ExtractionError, MemoryError):
        raise
    except FileNotDecryptedError as error:
        raise ExtractionError("The PDF is encrypted: it needs a password") from error
    except DependencyError as error:
        raise ExtractionError(f"The PDF is encrypted in a way that is not read: {error}") from error
    except Exception as error:  # a broken file makes pypdf raise anything, as its docs say
        told = " ".join(str(error).split())[:LONGEST_REASON]
        raise ExtractionError(f"The PDF is broken: {type(error).__name__}: {told}") from error
    if not any(pages):
        raise ExtractionError(
            f"The PDF has no text on its {len(pages)} pages: if it is a scan, recognize its text "
            "(OCR) first"
        )
    return str(title or ""), "\n\n".join(filter(None, pages))


def _pages(reader: PdfReader) -> Iterator[str]:
    length = 0
    for number, page in enumerate(reader.pages, 1):
        text = page.extract_text().strip()
        length += length_of(text)
        check_length(length, f"The PDF, up to page {number} of {len(reader.pages)},")
        yield text
