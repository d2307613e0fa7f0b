"""Nothing hidden, and no marker of a chat template, comes through."""

import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.retrieval.visible import TEMPLATE_MARKER, visible, visible_line

TAGS = "".join(chr(0xE0000 + ord(letter)) for letter in "obey")
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e\u3164"
VARIATION = "\ufe00\ufe0f\U000e0100\U000e01ef"
CONTROL = "\x00\x07\x08\x1b\x7f\x80\x9f\ufff9"
MARKERS = [
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>", "<|user|>", "<|end|>",
    "<|START_OF_TURN_TOKEN|>", "<|turn>", "<turn|>", "<\uff5cUser\uff5c>", "<|channel|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "<start_of_turn>", "<end_of_turn>", "<s>", "</s>",
    "<<SYS>>", "<</SYS>>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[TOOL_CALLS]", "[gMASK]",
    "<think>", "</think>", "<tool_call>", "</tool_response>",
]  # fmt: skip


@pytest.mark.parametrize("hidden", [TAGS, BIDI, ZERO_WIDTH, VARIATION, CONTROL, "\ud800\udfff"])
def test_what_cannot_be_seen_is_left_out(hidden: str) -> None:
    """Letters between which something is hidden stand side by side."""
    assert visible("a" + "".join(f"{character}b" for character in hidden)) == (
        "a" + "b" * len(hidden)
    )


def test_no_control_or_format_character_is_forgotten() -> None:
    """Of Unicode's control and surrogate characters newline and tab alone come through."""
    through = {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} and visible(character)
    }
    assert {visible(character) for character in through} == {"\n", "\t"}


def test_format_characters_that_come_through_can_be_seen() -> None:
    """Of the format characters those with a shape of their own are text."""
    through = {
        unicodedata.name(character).split()[0]
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) == "Cf" and visible(character)
    }
    assert through == {"ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN"}


def test_text_stays_as_it_is() -> None:
    """Letters, accents, emoji, Markdown, code and white space are none of its business."""
    text = (
        "Größe: 世界 e\u0301 😀\n\n\t| a | b |\n[1] x |> f <| y <b>HTML</b> [link](url) a || b <> c"
    )
    assert visible(text) == text


@pytest.mark.parametrize("end", ["\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029", "\x1c"])
def test_every_line_end_is_a_newline(end: str) -> None:
    """No line begins that would not be seen to begin."""
    assert visible(f"a{end}b") == "a\nb"


@pytest.mark.parametrize("marker", MARKERS)
def test_markers_of_chat_templates_are_broken_up(marker: str) -> None:
    """A marker does not come through, nor one that something invisible was put into."""
    assert marker not in visible(f"a{marker}b")
    assert marker not in visible("\u200b".join(marker))
    assert visible(marker).replace(" ", "") == marker


@settings(deadline=None)
@given(st.text(st.sampled_from("<|>/[]sINT im\u200b\uff5c\r\n")) | st.text())
def test_doing_it_twice_changes_nothing(text: str) -> None:
    """What is visible stays, and what is broken up is broken up for good."""
    once = visible(text)
    assert visible(once) == once
    assert not TEMPLATE_MARKER.search(once)
    once.encode("utf-8")


@settings(deadline=None)
@given(st.text(), st.integers(1, 20))
def test_a_line_is_one_line(text: str, length: int) -> None:
    """It has no line end, and not more than the length."""
    line = visible_line(text, length=length)
    assert len(line) <= length
    assert len(line.splitlines()) <= 1


def test_a_line_that_is_cut_says_so() -> None:
    """A long title ends in dots."""
    assert visible_line("a\u2028long \n title", length=7) == "a long…"
