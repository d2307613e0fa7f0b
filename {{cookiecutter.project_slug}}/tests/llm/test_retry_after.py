"""How long a provider asks to wait, in all the ways in which providers say it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import LONGEST_WAIT
from app.llm.retry_after import retry_after_seconds

NOW = 1_445_412_470.0  # Wed, 21 Oct 2015 07:27:50 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
    ],
)
def test_reads_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, a date or milliseconds; the finest that makes sense counts; never below zero."""
    assert retry_after_seconds(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "1e300"},
        {"retry-after": "86401"},
        {"retry-after": "9999d"},
        {"retry-after": "Wed, 25 Nov 2099 00:00:00 GMT"},
        {"retry-after-ms": "1e300"},
        {"retry-after-ms": "86400001"},
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2d"},
    ],
    ids=str,
)
def test_no_wait_is_longer_than_a_day(headers: dict[str, str]) -> None:
    """Whoever is told more than a day, however it is told, waits a day."""
    assert retry_after_seconds(headers, now=NOW) == LONGEST_WAIT == 86400
    assert retry_after_seconds({"retry-after-ms": "86399000"}, now=NOW) == 86399


@pytest.mark.parametrize(
    "value",
    [
        "", "soon", "inf", "-inf", "nan", "1e999", "²", "99 Oct", "5 apples",
        "Wed, 21 Oct 20150000000000 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 +99999999999999",
    ],
)  # fmt: skip
@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms"])
def test_advice_without_sense_is_no_advice(header: str, value: str) -> None:
    """What is not a finite time is as good as absent."""
    assert retry_after_seconds({header: value}, now=NOW) is None


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("120ms", 0.12),
        ("1s", 1.0),
        ("7.66s", 7.66),
        ("6m0s", 360.0),
        ("1h2m3s", 3723.0),
        ("1d", 86400.0),
        ("30", 30.0),
        ("2015-10-21T07:28:00Z", 10.0),
    ],
)
def test_a_used_up_budget_resets_at_its_time(reset: str, seconds: float) -> None:
    """Without Retry-After, the reset of a budget with nothing remaining is the wait."""
    openai = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": reset}
    assert retry_after_seconds(openai, now=NOW) == pytest.approx(seconds)
    anthropic = {
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": reset,
    }
    assert retry_after_seconds(anthropic, now=NOW) == pytest.approx(seconds)


def test_only_used_up_budgets_count_and_the_last_to_reset_decides() -> None:
    """A budget with something left is not waited for; of those used up, all must be back."""
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "5s",
        "anthropic-ratelimit-tokens-remaining": "10",
        "anthropic-ratelimit-tokens-reset": "2015-10-21T07:29:00Z",
    }
    assert retry_after_seconds(headers, now=NOW) == 5.0
    assert retry_after_seconds({**headers, "retry-after": "1"}, now=NOW) == 1.0


@given(st.text(max_size=30) | st.from_regex(r"[\dTZ:+\-\.msh ,GMTOct]{1,30}", fullmatch=True))
def test_no_value_breaks_the_reader(value: str) -> None:
    """Whatever a provider sends, the answer is None or from 0 seconds to a day."""
    seconds = retry_after_seconds({"retry-after": value}, now=NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_WAIT
