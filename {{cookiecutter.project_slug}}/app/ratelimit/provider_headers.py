"""What a provider's response headers say about its own rate limits.

Read are: OpenAI's `x-ratelimit-remaining-*` and `x-ratelimit-reset-*` (durations such as
"6m0s", "120ms"), which most compatible servers send too; Anthropic's
`anthropic-ratelimit-*-remaining` and `-reset` (RFC 3339 times). Times of day are taken relative to
the response's own `date`, so that the two clocks need not agree. What makes no sense is ignored.

    for unit, left in read_provider_limits(response.headers).items():
        limiter.correct(budgets[unit], remaining=left.remaining, reset=left.reset)

Sources: https://platform.openai.com/docs/guides/rate-limits,
https://platform.claude.com/docs/en/api/rate-limits. Needs: `protocol`, the standard library.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .protocol import Unit

NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?", re.ASCII)
DURATION_PART = re.compile(rf"({NUMBER.pattern})(ns|us|µs|ms|s|m|h|d)", re.ASCII)
SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class ProviderLimit:
    """What the provider says is left of one of its limits."""

    remaining: int
    reset: float | None
    """Seconds until it is whole again, None where the provider does not say."""


def read_provider_limits(
    headers: Mapping[str, str], *, now: Callable[[], float] = time.time
) -> dict[Unit, ProviderLimit]:
    """Return what is left of the provider's requests and tokens, for those it tells.

    `headers` are looked up in lower case, as httpx', Starlette's and urllib3's answer to any.
    """
    units: tuple[Unit, ...] = ("requests", "tokens")
    found = {unit: _openai(headers, unit) or _anthropic(headers, unit, now) for unit in units}
    return {unit: limit for unit, limit in found.items() if limit is not None}


def _openai(headers: Mapping[str, str], unit: Unit) -> ProviderLimit | None:
    remaining = _number(headers.get(f"x-ratelimit-remaining-{unit}"))
    reset = _duration(headers.get(f"x-ratelimit-reset-{unit}"))
    return None if remaining is None else ProviderLimit(int(remaining), reset)


def _anthropic(
    headers: Mapping[str, str], unit: Unit, now: Callable[[], float]
) -> ProviderLimit | None:
    remaining = _number(headers.get(f"anthropic-ratelimit-{unit}-remaining"))
    text = headers.get(f"anthropic-ratelimit-{unit}-reset")
    reset = _until(datetime.fromisoformat, text, headers, now)
    return None if remaining is None else ProviderLimit(int(remaining), reset)


def _number(text: str | None) -> float | None:
    return float(text) if text and NUMBER.fullmatch(text.strip()) else None


def _duration(text: str | None) -> float | None:
    """Return the seconds of a duration as Go writes it, or of a plain number."""
    text = (text or "").strip()
    parts = DURATION_PART.findall(text)
    if not parts or DURATION_PART.sub("", text):
        return _number(text)
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def _until(
    parse: Callable[[str], datetime],
    text: str | None,
    headers: Mapping[str, str],
    now: Callable[[], float],
) -> float | None:
    """Return the seconds from the response's `date`, or else from now, until a time of day."""
    try:
        then = _timestamp(parse, text or "")
    except (ValueError, OverflowError):
        return None
    try:
        start = _timestamp(parsedate_to_datetime, headers.get("date") or "")
    except (ValueError, OverflowError):
        start = now()
    return max(0.0, then - start)


def _timestamp(parse: Callable[[str], datetime], text: str) -> float:
    time_of_day = parse(text)
    if time_of_day.tzinfo is None:
        time_of_day = time_of_day.replace(tzinfo=UTC)
    return time_of_day.timestamp()
