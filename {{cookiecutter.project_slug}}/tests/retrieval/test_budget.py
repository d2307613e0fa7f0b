"""What was found is cut to a budget of tokens that is never passed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.retrieval.budget import Estimate, cost_of, fit
from app.retrieval.protocol import Found

from .sources import found


def words(text: str) -> int:
    """Estimate: a word is a token."""
    return len(text.split())


def characters(text: str) -> int:
    """Estimate: a character is a token, but for the line ends between title, URL and text."""
    return len(text.replace("\n", ""))


def fitting(*texts: str, budget: int) -> list[str]:
    """Fit texts and return what is left of them."""
    return [one.text for one in fit(map(found, texts), budget=budget, estimate=words)]


def test_what_fits_is_taken_whole_and_in_order() -> None:
    """Within the budget nothing changes."""
    assert fitting("a b c", "d e", "f", budget=6) == ["a b c", "d e", "f"]


def test_what_does_not_fit_any_more_is_left_out() -> None:
    """A later one that still fits is taken."""
    assert fitting("a b c", "d e f", "g h", budget=5) == ["a b c", "g h"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("One two. Three four! Five six", "One two. Three four!"),
        ('He said "so." Then more of it', 'He said "so."'),
        ("A heading\n\nand a paragraph below", "A heading"),
        ("Version 3.11 is it. And then", "Version 3.11 is it."),
        ("no sentence ends in this one", "no sentence ends in"),
    ],
)
def test_the_first_is_cut_at_a_sentence(text: str, cut: str) -> None:
    """The best is not left out for its length: it ends with a sentence, or at least a word."""
    assert fitting(text, budget=4) == [cut]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("你好。世界。再见了", "你好。世界。"),
        ("unbreakable", "unbreaka"),
    ],
)
def test_without_words_it_is_cut_where_it_must_be(text: str, cut: str) -> None:
    """Chinese has sentences without spaces; one long word is cut within."""
    assert [one.text for one in fit([found(text)], budget=8, estimate=characters)] == [cut]


def test_after_the_cut_one_others_may_still_fit() -> None:
    """What the cut leaves of the budget is used."""
    assert fitting("One two. Three four five six", "seven", budget=4) == ["One two.", "seven"]


def test_only_the_first_is_cut() -> None:
    """Where something is taken already, the rest is whole or not there."""
    assert fitting("a b", "One two. Three four.", budget=4) == ["a b"]


def test_title_and_url_cost_too() -> None:
    """What the prompt quotes of a text is not only its text."""
    one = found("text", title="a title of five words", url="https://example.com")
    assert fit([one], budget=6, estimate=words) == []
    assert fit([one], budget=7, estimate=words) == [one]


def test_the_first_that_can_be_cut_is() -> None:
    """A title that fills the budget alone leaves it to the next."""
    wordy = found("text", title="far too many words in here")
    assert fit([wordy, found("a b c d")], budget=3, estimate=words) == [found("a b c")]


FOUND = st.builds(
    Found,
    title=st.text(max_size=3),
    text=st.text(st.sampled_from("ab .\n。é"), max_size=30),
    source=st.just("docs"),
    url=st.none() | st.just("u"),
)


ESTIMATES: list[Estimate] = [words, characters, len, lambda text: len(text.encode()) // 3]


@settings(deadline=None)
@given(st.lists(FOUND, max_size=5), st.integers(0, 60), st.sampled_from(ESTIMATES))
def test_the_budget_is_never_passed(texts: list[Found], budget: int, estimate: Estimate) -> None:
    """The costs add up to no more, and only the first is not whole."""
    fitting = fit(texts, budget=budget, estimate=estimate)
    assert sum(cost_of(one, estimate) for one in fitting) <= budget
    assert all(one in texts for one in fitting[1:])
    for first in fitting[:1]:
        assert any(replace(whole, text=first.text) == first for whole in texts)
        assert any(whole.text.startswith(first.text) for whole in texts)


@settings(deadline=None)
@given(st.lists(FOUND, max_size=5), st.integers(0, 60), st.sampled_from(ESTIMATES))
def test_there_is_a_result_if_there_can_be(
    texts: list[Found], budget: int, estimate: Estimate
) -> None:
    """With the first character of anything in the budget, the result is not empty."""
    blank = [len(text.text) - len(text.text.lstrip()) for text in texts]
    smallest = [replace(t, text=t.text[: end + 1]) for t, end in zip(texts, blank, strict=True)]
    if any(cost_of(one, estimate) <= budget for one in smallest if one.text.strip()):
        assert fit(texts, budget=budget, estimate=estimate)
