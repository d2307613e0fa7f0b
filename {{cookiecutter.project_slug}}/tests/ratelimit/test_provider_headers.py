"""What providers say about their limits is understood; what makes no sense is ignored."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ratelimit.provider_headers import (
    ProviderLimit,
    read_provider_limits,
)

NOON = 1_767_268_800.0
"""2026-01-01, 12:00:00 UTC."""
DATE = "Thu, 01 Jan 2026 12:00:00 GMT"


def noon() -> float:
    """Return the time as this machine has it."""
    return NOON


def test_openai_headers() -> None:
    """OpenAI names the unit last, and writes durations as Go does."""
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert read_provider_limits(headers) == {
        "requests": ProviderLimit(59, 1.0),
        "tokens": ProviderLimit(149_984, 360.0),
    }


def test_anthropic_headers() -> None:
    """Anthropic names the unit first, and the time of day at which the limit is whole again."""
    headers = {
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-01-01T12:00:30Z",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2026-01-01T14:00:01.5+02:00",
    }
    assert read_provider_limits(headers, now=noon) == {
        "requests": ProviderLimit(49, 30.0),
        "tokens": ProviderLimit(0, 1.5),
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120ms", 0.12),
        ("8.64s", 8.64),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723),
        ("1d", 86_400),
        ("250µs", 0.00025),
        ("17", 17),
        ("soon", None),
        ("1s later", None),
        ("", None),
        ("-1s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """Durations come in all units of Go, or as plain seconds; anything else is unknown."""
    headers = {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": text}
    assert read_provider_limits(headers)["tokens"].reset == pytest.approx(seconds)


def test_times_are_relative_to_the_response() -> None:
    """A time of day is compared with the provider's own clock where the response tells it."""
    limit = "anthropic-ratelimit-tokens-"
    headers = {f"{limit}remaining": "5", f"{limit}reset": "2026-01-01T12:01:00Z"}
    wrong = read_provider_limits(headers | {"date": DATE}, now=lambda: NOON - 3600)
    undated = read_provider_limits(headers | {"date": "?"}, now=noon)
    assert wrong == undated == {"tokens": ProviderLimit(5, 60)}


def test_nothing_said_is_nothing_known() -> None:
    """Without the headers, or with a remainder that is no number, there is no limit to take."""
    assert read_provider_limits({}) == {}
    assert read_provider_limits({"x-ratelimit-remaining-tokens": "many"}) == {}


NAMES = (
    "date",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
)
VALUES = st.one_of(
    st.text(alphabet="0123456789.:-+TZsmhdµ ,GMTJan", max_size=30),
    st.text(max_size=10),
    st.datetimes().map(str),
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_nonsense_never_raises(headers: Mapping[str, str]) -> None:
    """Whatever a provider sends, reading it gives figures that can be used, or nothing."""
    for limit in read_provider_limits(headers, now=noon).values():
        assert limit.remaining >= 0
        assert limit.reset is None or 0 <= limit.reset < float("inf")
