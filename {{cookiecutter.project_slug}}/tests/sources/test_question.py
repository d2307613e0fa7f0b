"""A question is cut where a reader would cut it."""

from hypothesis import given
from hypothesis import strategies as st

from app.sources.question import LAST_WORD, beginning


def test_a_short_question_is_whole() -> None:
    """What fits is asked as it is, without the white space around it."""
    assert beginning(" what is\n a zebra? \n", 17) == "what is\n a zebra?"


def test_the_last_word_is_whole() -> None:
    """The cut is at the last end of a word that fits."""
    assert beginning("has a zebra stripes?", 19) == "has a zebra"
    assert beginning("has a zebra stripes?", 11) == "has a zebra"


def test_a_word_without_an_end_is_cut() -> None:
    """Languages without spaces, and what is no language, have no such end nearby."""
    assert beginning("a " + "x" * 200, 100) == "a " + "x" * 98


@given(st.text(st.sampled_from("ab \n")), st.integers(LAST_WORD, 60))
def test_it_is_a_beginning_within_the_limit(question: str, most: int) -> None:
    """Never longer than allowed, nor another text, nor empty where there is a word."""
    cut = beginning(question, most)
    assert len(cut) <= most
    assert question.strip().startswith(cut)
    assert bool(cut) == bool(question.strip())
