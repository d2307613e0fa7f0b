"""What is one document, and what is a new version of it."""

from pathlib import Path

import pytest

from app.documents.submission import Content, Submission


def test_same_content_is_the_same_document() -> None:
    """The id is that of the content, whichever way it comes in and whatever it is called."""
    text = Submission.text("same").document
    assert text.id == Submission.text("same", "Title").document.id
    assert text.id == Submission.file(b"same", "text/plain", "name.txt").document.id
    assert text.id != Submission.text("other").document.id


def test_revision_is_of_what_is_said_about_it() -> None:
    """Handing it in again changes nothing; another title, other metadata or another kind do."""
    revisions = {
        Submission.text("same").document.revision,
        Submission.text("same").document.revision,
        Submission.text("same", "Title").document.revision,
        Submission.text("same", "Title", {"a": 1, "b": 2}).document.revision,
        Submission.text("same", "Title", {"b": 2, "a": 1}).document.revision,
        Submission.file(b"same", "text/html", "same.html").document.revision,
        Submission.file(b"same", "text/plain", "same.html").document.revision,
    }
    assert len(revisions) == 5


def test_file_on_disk_is_known_by_its_path(tmp_path: Path) -> None:
    """A file that was changed is the same document in a new revision; one beside it is another."""
    old, new = (Submission.path(tmp_path / "a.md", data).document for data in (b"old", b"new"))
    assert old.id == new.id
    assert old.revision != new.revision
    assert old.id != Submission.path(tmp_path / "b.md", b"old").document.id


def test_page_is_known_by_its_url() -> None:
    """A page has the id of its URL, which is kept for citing it."""
    page = Submission.page("https://example.org/a").document
    assert page.url == "https://example.org/a"
    assert page.id == Submission.page("https://example.org/a", "Title").document.id
    assert page.id != Submission.page("https://example.org/b").document.id


@pytest.mark.parametrize(
    "content",
    [
        Content(b"\x00bytes\nand lines", "text/html; charset=latin-1", 'a "name"\n.html'),
        Content(url="https://example.org/ü"),
        Content(),
    ],
)
def test_content_survives_the_store(content: Content) -> None:
    """What is packed for the store is unpacked as it was."""
    assert Content.unpack(content.pack()) == content
