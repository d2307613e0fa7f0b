"""Passages: nothing is lost, none is too long, and the time is linear."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ingestion.split import estimate_text, split

PIECES = [
    "word", "longer-word", ". ", "! ", " ", "\n", "\n\n", "\n\n\n\n\n", "- item\n", "1. item\n",
    "> quote\n", "| a | b |\n|---|---|\n| c | d |\n", "```\n", "**bold** ", "`code`", "[a](b)",
    "漢字", "。", "é", "🙂", "x" * 100, "\t", "\u00a0", "---\n", "===\n", "<b>", "\r\n",
]  # fmt: skip
MARKDOWN = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=200).map("".join)
SIZES = st.integers(50, 120).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, 24)))


def characters(text: str) -> str:
    """Return all but the white space."""
    return "".join(text.split())


@given(MARKDOWN.filter(lambda text: "#" not in text and "\n=" not in text and "\n-" not in text))
def test_nothing_but_white_space_is_lost(markdown: str) -> None:
    """Without headings and overlap, the passages one after another are the text."""
    passages = split(markdown, max_tokens=50, overlap=0)
    assert characters("".join(passages)) == characters(markdown)


@given(
    st.lists(st.sampled_from(["word ", "Sentence. ", "\n\n", "x" * 300, "HEADING"]), max_size=60)
)
def test_nothing_is_lost_under_headings(pieces: list[str]) -> None:
    """Each passage is some headings and the next of the text, itself without a gap."""
    numbers = iter(range(100, 200))
    markdown = "".join(
        f"\n\n# <{next(numbers)}>\n\n" if piece == "HEADING" else piece for piece in pieces
    )
    rest = characters(markdown)
    for passage in split(markdown, max_tokens=50, overlap=0):
        lead = re.match(r"<\d+>\n\n", passage)
        text = characters(passage[lead.end() :] if lead else passage)
        assert rest.startswith(text)
        rest = rest.removeprefix(text)
    assert not rest


@given(MARKDOWN, SIZES, st.text(max_size=80))
def test_no_passage_is_empty_or_too_long(markdown: str, sizes: tuple[int, int], title: str) -> None:
    """By the estimate, title, headings and overlap included."""
    max_tokens, overlap = sizes
    for passage in split(markdown, title=title, max_tokens=max_tokens, overlap=overlap):
        assert passage.strip()
        assert estimate_text(passage) <= max_tokens


@given(st.text(max_size=50), st.text(max_size=50))
def test_the_estimate_of_two_texts_is_no_less_than_of_both(one: str, other: str) -> None:
    """So a lead within its room and a text within its own fit together."""
    assert estimate_text(one + other) <= estimate_text(one) + estimate_text(other)


def test_a_passage_begins_with_what_it_lies_under() -> None:
    """Title and headings lead, outermost first, each once."""
    markdown = f"# Guide\n\n## Setup\n\n{'Set it up. ' * 40}\n\n## Use\n\n{'Use it. ' * 80}"
    starts = [passage[:18] for passage in split(markdown, title="Guide", max_tokens=100)]
    assert starts[0] == "Guide\n\n# Guide\n\n##"
    assert starts[1] == "Guide > Setup\n\nSet"
    assert "Guide\n\n## Use\n\nUse" in starts
    assert starts[-1].startswith("Guide > Use\n\nUse")


def test_of_too_many_headings_the_innermost_stay() -> None:
    """The lead has a fifth of the tokens; what is nearest to the text says most."""
    markdown = "# " + "long " * 20 + "\n\n## Near\n\n" + "Word after word. " * 30
    assert split(markdown, title="A title", max_tokens=50, overlap=0)[-1].startswith("Near\n\nWord")


def test_it_lies_under_the_headings_of_its_place() -> None:
    """Also far into a long text."""
    sections = [f"## Section {number}\n\n{f'Text{number}. ' * 200}\n\n" for number in range(10, 60)]
    for passage in split("".join(sections), max_tokens=100):
        named = re.findall(r"Section (\d+)", passage)
        assert set(re.findall(r"Text(\d+)", passage)) <= set(named)


def test_headings_do_not_stand_alone() -> None:
    """Where a heading would be a passage of its own, its text is put to it if that fits."""
    markdown = "# A\n\n" + "word " * 150 + "\n\n# B\n---\n## C\n---\n\n" + "text " * 60
    for passage in split(markdown, max_tokens=120, overlap=0):
        assert re.search("word|text", passage)
    for passage in split(f"# {'long ' * 40}\n\n{'text ' * 60}", max_tokens=100, overlap=0):
        assert estimate_text(passage) <= 100


def test_the_fence_of_code_does_not_stand_alone() -> None:
    """Where code is cut, what opens it stands with its beginning."""
    code = "\n".join(f"value_{number} = compute(number={number})" for number in range(40))
    passages = split(f"Text.\n\n## How\n\n```python\n{code}\n```", max_tokens=120, overlap=0)
    assert len(passages) > 3
    assert all("compute" in passage for passage in passages[1:])


@pytest.mark.parametrize("markdown", ["", " \n\t\n", "\n" * 5000, "\u00a0\n" * 100])
def test_a_blank_text_has_no_passages(markdown: str) -> None:
    """However many lines it has."""
    assert split(markdown) == []


def test_a_passage_begins_with_the_end_of_the_last() -> None:
    """The overlap is whole sentences, and none at 0."""
    sentences = [f"This is the sentence of the number {number}." for number in range(30)]
    passages = split(" ".join(sentences), max_tokens=100, overlap=20)
    for one, following in pairwise(passages):
        assert following.split(". ")[0] in one


def test_sentences_stay_whole() -> None:
    """What fits into a passage is not cut within."""
    sentences = [f"This is the sentence of the number {number}." for number in range(100)]
    for passage in split(" ".join(sentences), max_tokens=60, overlap=0):
        assert passage.startswith("This")
        assert passage.endswith(".")


@pytest.mark.parametrize(("max_tokens", "overlap"), [(49, 0), (100, 50), (100, -1)])
def test_sizes_that_leave_no_room_are_refused(max_tokens: int, overlap: int) -> None:
    """At once, whatever the text; the error names them."""
    with pytest.raises(ValueError, match=f"{max_tokens} and overlap {overlap}"):
        split("", max_tokens=max_tokens, overlap=overlap)


@pytest.mark.parametrize(
    "text",
    [
        lambda size: "x" * size,
        lambda size: "漢" * size,
        lambda size: "word " * (size // 5),
        lambda size: "# aaaa\n---\n" * (size // 11) + "text",
        lambda size: "a\n---\n" * (size // 6) + "text",
        lambda size: "[" * size,
        lambda size: "".join("a" + "\n" * (row % 90) for row in range(size // 45)),
        lambda size: "\n \u00a0" * (size // 3) + "a",
        lambda size: "\n" * size + "a",
        lambda size: "".join("  " * (row % 50) + "- a\n" for row in range(size // 54)),
    ],
)
def test_the_work_is_linear(text: Callable[[int], str]) -> None:
    """Eight times the text, of one line or many, costs about eight times the estimates."""

    def work(size: int) -> int:
        seen = 0

        def estimate(part: str) -> int:
            nonlocal seen
            seen += 100 + len(part)
            return estimate_text(part)

        assert split(text(size), estimate=estimate)
        assert seen < 200 * size
        return seen

    assert work(160_000) < 12 * work(20_000)
