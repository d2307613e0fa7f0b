"""Passages: nothing is lost, none is too long, and the splitter never gets too much at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import MarkdownSplitter

from app.documents import splitting
from app.documents.splitting import LEAD, LONGEST, PART, SHORT, split

PIECES = [
    "word", "longer-word", ". ", " ", "\n", "\n\n", "- item\n", "> quote\n", "```\n", "**bold** ",
    "| a | b |\n|---|---|\n| c | d |\n", "[a](b)", "漢字", "。", "🙂", "x" * 2000, "\u00a0",
    "# A\n", "Sentence. " * 50, "漢字。" * 300, "\n" * 3000, "\n    ",
]  # fmt: skip
VISIBLE = st.characters(exclude_categories=["C"])
HOSTILE = [
    "x", "漢", "🙂", "word ", "A sentence. ", "\n", "a\n\n\n", "# a\n", "[", f"{'>' * 100}a\n",
    "```\n", "[a](b) ", "<b>", "| a ", "".join(f"{'  ' * depth}- a\n" for depth in range(50)),
]  # fmt: skip


def characters(text: str) -> str:
    """Return all but the white space."""
    return "".join(text.split())


@settings(max_examples=25)
@given(st.lists(st.sampled_from(PIECES) | st.text(VISIBLE, max_size=5), max_size=100).map("".join))
def test_nothing_is_lost(markdown: str) -> None:
    """Behind its title, the passages one after another are the text, none empty or too long."""
    passages = split(markdown, title="t" * 999)
    texts = [passage.removeprefix("t" * LEAD).strip() for passage in passages]
    assert characters("".join(texts)) == characters(markdown)
    assert all(texts)
    assert all(len(passage) <= LONGEST for passage in passages)
    assert all(len(text) >= SHORT for text in texts[:-1])  # so no heading is one of its own


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The splitter, whose time is quadratic, gets a part at a time; the passages are not many."""
    parts = []

    class Recorder:
        def __init__(self, capacity: int) -> None:
            self._splitter = MarkdownSplitter(capacity)

        def chunks(self, text: str) -> list[str]:
            parts.append(len(text.encode()))
            return self._splitter.chunks(text)

    monkeypatch.setattr(splitting, "MarkdownSplitter", Recorder)
    markdown = f"{piece * (200_000 // len(piece))} a"
    passages = split(markdown)
    assert max(parts) <= 2 * PART
    assert len(parts) <= 2 * len(markdown.encode()) / PART + 1
    assert len(passages) <= len(markdown.encode()) / SHORT
    assert max(map(len, passages)) <= LONGEST


def test_length_depends_on_the_script() -> None:
    """A passage has about as many bytes in each; sentences stay whole, also where parts meet."""
    english, chinese = split("A few words. " * 1000), split("漢字漢字。" * 3000)
    assert 350 < len(chinese[0]) <= 400
    assert 1100 < len(english[0]) <= 1200
    assert all(passage.endswith((".", "。")) for passage in english + chinese)


@pytest.mark.parametrize("markdown", ["", " \n\t\n", "\n" * 50_000, "\u00a0\n" * 100])
def test_blank_text(markdown: str) -> None:
    """It has no passages, however many lines it has."""
    assert split(markdown, title="Title") == []
