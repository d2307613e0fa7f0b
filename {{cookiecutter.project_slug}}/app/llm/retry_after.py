"""How long a provider asks its caller to wait, read from the headers of its refusal.

Needs: `app.errors`.
Sources: `retry-after-ms` as OpenAI's own client reads it;
https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers;
https://platform.claude.com/docs/en/api/rate-limits#response-headers
"""

from collections.abc import Iterator, Mapping

from app.errors import parse_retry_after

RATE_LIMIT_HEADERS = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
)
BUDGETS = ("requests", "tokens", "input-tokens", "output-tokens")


def retry_after_seconds(headers: Mapping[str, str], *, now: float) -> float | None:
    """Read the wait in seconds: `retry-after-ms`, `Retry-After`, or when a used-up budget resets.

    `headers` has lower-case names or ignores case; `now` is in seconds since the epoch. None where
    no header holds a finite time; never less than 0 nor more than a day.
    """
    try:
        exact = str(float(headers.get("retry-after-ms", "")) / 1000)
    except ValueError:
        exact = ""
    seconds = parse_retry_after(exact, now=now)
    if seconds is None:
        seconds = parse_retry_after(headers.get("retry-after", ""), now=now)
    return max(_resets(headers, now), default=None) if seconds is None else seconds


def _resets(headers: Mapping[str, str], now: float) -> Iterator[float]:
    for budget in BUDGETS:
        for remaining, reset in RATE_LIMIT_HEADERS:
            seconds = parse_retry_after(headers.get(reset.format(budget), ""), now=now)
            if headers.get(remaining.format(budget)) == "0" and seconds is not None:
                yield seconds
