"""Rankings are fused by rank, without duplicates, and the same way every time."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.retrieval.fuse import fuse, url_key
from app.retrieval.protocol import Found

from .sources import found

WORDS = st.sampled_from(["one", "two", "three", "four", "five", "six"])
URLS = st.sampled_from(
    [None, "https://a.example/x", "https://A.example/x/#top", "https://b.example"]
)
TEXTS = st.lists(WORDS, max_size=4).map(" ".join)
RANKINGS = st.lists(
    st.lists(st.builds(Found, st.just(""), TEXTS, st.just("docs"), URLS), max_size=5), max_size=4
)


def texts(*rankings: list[Found]) -> list[str]:
    """Fuse and return the texts."""
    return [one.text for one in fuse(rankings)]


def ranking(*words: str) -> list[Found]:
    """Make a source's result."""
    return [found(word) for word in words]


def same(text: str) -> str:
    """Return what is compared of a text."""
    return f" {' '.join(text.split())} "


def test_what_two_sources_found_comes_first() -> None:
    """Ranks count by 1 / (60 + rank): two second places are better than one first."""
    assert texts(ranking("a", "both"), ranking("b", "both")) == ["both", "a", "b"]


def test_a_bad_rank_in_many_sources_is_better_than_one_good_rank() -> None:
    """K = 60 flattens the ranks: 2 / (60 + 20) is more than 1 / (60 + 1)."""
    others = [[f"{source}{rank}" for rank in range(19)] for source in "ab"]
    fused = texts(*(ranking(*other, "both") for other in others))
    assert fused[0] == "both"


def test_among_equals_the_earlier_source_comes_first() -> None:
    """The order of the sources decides between equal scores."""
    assert texts(ranking("a1", "a2"), ranking("b1", "b2")) == ["a1", "b1", "a2", "b2"]


def test_a_source_counts_once() -> None:
    """A source that repeats a text does not make it better than its best rank."""
    assert texts(ranking("a", "x", "x", "x", "x"), ranking("b", "c")) == ["a", "b", "x", "c"]


def test_case_and_white_space_make_no_difference() -> None:
    """A text that is set differently is the same text."""
    assert len(texts(ranking("Straße  nach\n Rom"), ranking(" STRASSE nach rom "))) == 1


def test_what_contains_another_stands_for_both() -> None:
    """A snippet adds its score to the text that it was taken from, and goes."""
    assert texts(ranking("a", "the whole of the text"), ranking("b", "of the …")) == [
        "the whole of the text", "a", "b",
    ]  # fmt: skip


def test_part_of_a_word_is_not_contained() -> None:
    """What is contained begins and ends with a word."""
    assert texts(ranking("15 dogs concatenate"), ranking("5", "cat")) == [
        "15 dogs concatenate", "5", "cat",
    ]  # fmt: skip


def test_two_sources_found_the_same_page() -> None:
    """One URL in two sources is one result, with the longer text and the sum of the scores."""
    page = found("a summary of it", url="https://example.com/page/?utm_source=feed#part")
    stored = found("a long passage from the page", url="HTTPS://EXAMPLE.com:443/page")
    assert fuse([[found("a"), page], [found("b"), stored]])[0] is stored


def test_passages_of_one_document_all_stay() -> None:
    """One source's texts from one URL are different passages; a second source's joins one."""
    url = "https://example.com/page"
    first, second = found("its first passage", url=url), found("the second of all", url=url)
    assert fuse([[first, second], [found("snippet", url=url)]]) == [first, second]


def test_where_a_part_was_found_there_may_be_more() -> None:
    """A text goes for one that was found whole on its page, not for one that was there in part."""
    url = "https://example.com/page"
    whole, more = found("the whole of the text"), found("more", url=url)
    assert fuse([[whole], [found("of the text", url=url)], [more]]) == [whole, more]
    linked = found("the whole of the text", url=url)
    assert fuse([[whole], [linked], [more]]) == [linked]


def test_texts_without_a_word_are_dropped() -> None:
    """There is nothing to cite in them."""
    assert texts(ranking("", " \n", "…", "a")) == ["a"]


def test_of_equal_texts_the_one_with_a_url_is_kept() -> None:
    """A text that can be linked to is the better citation."""
    linked = found("text", url="https://example.com")
    assert fuse([[found("text")], [linked]]) == [linked]


@pytest.mark.parametrize(
    "same_page",
    [
        "HTTP://Example.COM/a?b=c",
        "http://example.com:80/a?b=c",
        "http://example.com/a/?b=c",
        "http://example.com/a?b=c#d",
        "http://example.com/a?utm_source=x&b=c&UTM_Campaign=y",
        " http://example.com/a?b=c\n",
    ],
)
def test_urls_of_one_page(same_page: str) -> None:
    """Spelling, default port, fragment, trailing slash and tracking do not make another page."""
    assert url_key(same_page) == url_key("http://example.com/a?b=c")


@pytest.mark.parametrize(
    "other",
    [
        "https://example.com/a?b=c",
        "http://example.com:81/a?b=c",
        "http://example.com/A?b=c",
        "http://example.com/a?b=C",
        "http://example.com/a",
        "http://www.example.com/a?b=c",
        "http://user@example.com/a?b=c",
        "http://[bad/a?b=c",
        "http://example.com:port/a?b=c",
    ],
)
def test_urls_of_different_pages(other: str) -> None:
    """Whatever else differs is another page, broken URLs included."""
    assert url_key(other) != url_key("http://example.com/a?b=c")


@pytest.mark.parametrize("nowhere", [None, "", "  "])
def test_no_url_is_no_page(nowhere: str | None) -> None:
    """Texts without a URL are not all from the same page."""
    assert url_key(nowhere) is None
    rankings = [[found("one", url=nowhere)], [found("two", url=nowhere)]]
    assert texts(*rankings) == ["one", "two"]


@settings(deadline=None)
@given(st.lists(st.lists(WORDS, unique=True), max_size=5))
def test_scores_are_those_of_the_paper(rankings: list[list[str]]) -> None:
    """The order is that of exact fractions summed up, then best rank, then earliest source."""
    places: dict[str, list[tuple[int, int]]] = {}
    for source, words in enumerate(rankings):
        for rank, word in enumerate(words, 1):
            places.setdefault(word, []).append((rank, source))

    def best_first(word: str) -> tuple[Fraction, tuple[int, int]]:
        score = sum((Fraction(1, 60 + rank) for rank, _ in places[word]), Fraction())
        return -score, min(places[word])

    fused = texts(*(ranking(*words) for words in rankings))
    assert fused == sorted(places, key=best_first)


@settings(deadline=None)
@given(RANKINGS)
def test_nothing_is_said_twice_and_nothing_is_lost(rankings: list[list[Found]]) -> None:
    """No result contains another; what is not a result is in one, or from a page that holds one."""
    fused = fuse(rankings)
    for one in fused:
        assert [same(one.text) in same(other.text) for other in fused].count(True) == 1
    entries = [entry for entries in rankings for entry in entries if entry.text]
    results = {same(one.text) for one in fused}
    pages = {url_key(entry.url) for entry in entries if same(entry.text) in results} - {None}
    for entry in entries:
        assert url_key(entry.url) in pages or any(same(entry.text) in result for result in results)


@settings(deadline=None)
@given(RANKINGS, st.randoms())
def test_the_order_of_the_sources_decides_among_equals_only(
    rankings: list[list[Found]], random: Random
) -> None:
    """However the sources are ordered, the same texts come out."""
    shuffled = list(rankings)
    random.shuffle(shuffled)
    assert sorted(texts(*rankings)) == sorted(texts(*shuffled))


@settings(deadline=None)
@given(RANKINGS)
def test_what_was_fused_is_fused(rankings: list[list[Found]]) -> None:
    """Fusing the result alone changes nothing, and fusing again gives the same."""
    fused = fuse(rankings)
    assert fuse([fused]) == fused == fuse(rankings)
