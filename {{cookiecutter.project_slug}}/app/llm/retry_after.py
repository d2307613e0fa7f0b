"""How long a provider asks its caller to wait, read from the headers of its refusal.

Needs: the standard library.
Sources: RFC 9110, 10.2.3 (Retry-After); `retry-after-ms` as OpenAI's own client reads it;
https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers;
https://platform.claude.com/docs/en/api/rate-limits#response-headers
"""

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

RATE_LIMIT_HEADERS = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
)
BUDGETS = ("requests", "tokens", "input-tokens", "output-tokens")
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 86400.0
"""A day, in seconds: who is told more comes back tomorrow and hears of the rest."""


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read the wait in seconds: `retry-after-ms`, `Retry-After`, or when a used-up budget resets.

    `headers` has lower-case names or ignores case; `now` is in seconds since the epoch. None where
    no header says anything that makes sense; never less than 0 nor more than a day.
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""), now)
    if milliseconds is not None:
        return min(milliseconds / 1000, LONGEST)
    seconds = _seconds(headers.get("retry-after", ""), now)
    if seconds is None:
        seconds = max(_resets(headers, now), default=None)
    return None if seconds is None else min(seconds, LONGEST)


def _resets(headers: Mapping[str, str], now: float) -> Iterator[float]:
    for budget in BUDGETS:
        for remaining, reset in RATE_LIMIT_HEADERS:
            seconds = _seconds(headers.get(reset.format(budget), ""), now)
            if headers.get(remaining.format(budget)) == "0" and seconds is not None:
                yield seconds


def _seconds(value: str, now: float) -> float | None:
    """Read a number of seconds, a duration (1m30.5s), an HTTP date or an RFC 3339 time."""
    for read in (float, _duration):
        try:
            seconds = read(value)
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            return max(0.0, parse(value).timestamp() - now)
        except (ValueError, OverflowError):  # a number too large for a date
            continue
    return None


def _duration(value: str) -> float:
    if not re.fullmatch(f"({DURATION_PART.pattern})+", value):
        raise ValueError(value)
    return sum(float(number) * SECONDS[unit] for number, unit in DURATION_PART.findall(value))
