"""Which error a provider's response or answer is, and when it asks to be called again.

Servers word their errors in many shapes, also under status 200.

Needs: `app.errors`, `answer.py` and `base.py`.
Sources: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers;
https://platform.claude.com/docs/en/api/rate-limits#response-headers
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.errors import parse_retry_after

from .answer import read_json
from .base import (
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderUnavailableError,
)

# By status, then by the `code` or `type` of an error object.
ERRORS: dict[str, type[ProviderError]] = {
    "401": ProviderAuthenticationError,
    "403": ProviderAuthenticationError,
    "authentication_error": ProviderAuthenticationError,
    "invalid_api_key": ProviderAuthenticationError,
    "permission_error": ProviderAuthenticationError,
    "402": ProviderRateLimitedError,
    "429": ProviderRateLimitedError,
    "billing_error": ProviderRateLimitedError,
    "insufficient_quota": ProviderRateLimitedError,
    "rate_limit_error": ProviderRateLimitedError,
    "rate_limit_exceeded": ProviderRateLimitedError,
    "503": ProviderOverloadedError,
    "529": ProviderOverloadedError,
    "overloaded_error": ProviderOverloadedError,
    "408": ProviderUnavailableError,
    "context_length_exceeded": ProviderRejectedError,
    "invalid_request_error": ProviderRejectedError,
    "not_found_error": ProviderRejectedError,
    "request_too_large": ProviderRejectedError,
}
# Anthropic's 400 of an account without money; only the message tells it from a bad request.
OUT_OF_CREDIT = (
    "Your credit balance is too low",
    "You have reached your specified API usage limits",
)
ENVELOPES = ("error", "errors", "base_resp", "detail")
"""Fields that hold the error of a body."""
ALIASES = {
    "message": ("message", "msg", "status_msg", "error_msg"),
    "code": ("code", "status_code", "error_code", "status"),
}
MAX_ERROR_TEXT = 200
"""Characters of an error body that is not JSON, as a proxy's page of HTML."""
RATE_LIMIT_HEADERS = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
)
RATE_LIMITS = ("requests", "tokens", "input-tokens", "output-tokens")


def error_kind(details: Mapping[str, Any], status: int | None = None) -> type[ProviderError]:
    """Find the type of an error by its status, `code` (often a status) or `type`."""
    if str(details.get("message")).startswith(OUT_OF_CREDIT):
        return ProviderRateLimitedError  # another provider may answer
    names = [str(name) for name in (status, details.get("code"), details.get("type"))]
    if known := next((ERRORS[name] for name in names if name in ERRORS), None):
        return known
    number = next((name for name in names if name.isdecimal()), "")
    is_rejection = number.startswith("4") and len(number) == len("400")
    return ProviderRejectedError if is_rejection else ProviderUnavailableError


def error_details(body: object) -> Mapping[str, Any]:
    """Find the error in a body: nested, flat, in a list, or a bare text.

    `message` and `code` are there under these names, where there are any.
    """
    if isinstance(body, bytes):
        text = body.decode("utf-8", "replace").strip()
        try:
            body = read_json(body)
        except ValueError:
            body = text
    if isinstance(body, list) and body and isinstance(body[0], dict):
        body = body[0]
    if not isinstance(body, dict):
        return {"message": str(body)[:MAX_ERROR_TEXT]}
    details = dict(body)
    if inner := next((body[name] for name in ENVELOPES if body.get(name)), None):
        details |= error_details(inner)
    for name, others in ALIASES.items():
        details[name] = next((details[other] for other in others if details.get(other)), None)
    return details


def says_why(body: object) -> bool:
    """Whether a body that is no answer says what went wrong."""
    details = error_details(body)
    return bool(details.get("message") or details.get("code"))


def retry_after(
    headers: Mapping[str, str], *, now: float | None = None
) -> tuple[float | None, bool]:
    """Return how many seconds to wait, and whether the provider has a Retry-After.

    `retry-after-ms` is more exact than `Retry-After`. Without either the wait ends with the last
    reset of the used-up rate limits; None if there is none. `now` is in seconds since the epoch.
    """
    for value in (f"{headers.get('retry-after-ms', '')}ms", headers.get("retry-after", "")):
        seconds = parse_retry_after(value, now=now)
        if seconds is not None:
            return seconds, True
    return max(_resets(headers, now), default=None), False


def _resets(headers: Mapping[str, str], now: float | None) -> Iterator[float]:
    """Find the seconds until each used-up rate limit resets."""
    for limit in RATE_LIMITS:
        for remaining, reset in RATE_LIMIT_HEADERS:
            seconds = parse_retry_after(headers.get(reset.format(limit), ""), now=now)
            if headers.get(remaining.format(limit)) == "0" and seconds is not None:
                yield seconds
