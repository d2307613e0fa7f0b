"""The fields of responses are those of the IETF draft, and the providers' fields are understood."""

import pytest

from app.ratelimit.base import Budget, BudgetStatus
from app.ratelimit.headers import rate_limit_fields, read_provider_limit

REQUESTS = BudgetStatus(Budget("client:a", "requests", 60), remaining=59, reset=12.01)
TOKENS = BudgetStatus(Budget("client:a", "tokens", 1000, window=0.5), remaining=0, reset=0)


def test_fields_have_policy_and_status() -> None:
    """Each budget is a policy by its name, with quota, unit and window, and what is left of it."""
    assert rate_limit_fields([TOKENS, REQUESTS]) == {
        "RateLimit-Policy": '"client:a:requests";q=60;qu="requests";w=60, '
        '"client:a:tokens";q=1000;qu="tokens";w=1',
        "RateLimit": '"client:a:requests";r=59;t=13, "client:a:tokens";r=0;t=0',
    }
    assert rate_limit_fields([]) == {}


def test_reset_is_not_after_retry_after() -> None:
    """Beside a `Retry-After`, budgets that come back later are left out."""
    fields = rate_limit_fields([TOKENS, REQUESTS], retry_after=12)
    assert fields["RateLimit"] == '"client:a:tokens";r=0;t=0'
    assert "requests" in fields["RateLimit-Policy"]
    assert "RateLimit" not in rate_limit_fields([REQUESTS], retry_after=12)


def test_names_are_structured_field_strings() -> None:
    """Quotes and backslashes in a name are escaped, and what is not printable ASCII is replaced."""
    status = BudgetStatus(Budget('a"\\é\r\nX: y', "tokens", 1), remaining=1, reset=0)
    assert rate_limit_fields([status])["RateLimit"] == r'"a\"\\???X: y:tokens";r=1;t=0'


@pytest.mark.parametrize(
    ("remaining", "reset", "limit"),
    [
        ("59", "6m0s", (59, 360.0)),
        ("0", "120ms", (0, 0.12)),
        ("0", "", (0, None)),
        ("0", "soon", (0, None)),
        ("5", "2020-01-01T12:00:30Z", (5, 0.0)),
        ("many", "1s", None),
        ("-1", "1s", None),
        ("²", "1s", None),
        ("9" * 5000, "1s", None),
        ("", "", None),
    ],
)
@pytest.mark.parametrize("vendor", ["x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}"])
def test_provider_limits(
    vendor: str, remaining: str, reset: str, limit: tuple[int, float | None] | None
) -> None:
    """What is left and until when is read from either vendor's fields; nonsense is ignored."""
    headers = {vendor.format("remaining"): remaining, vendor.format("reset"): reset}
    assert read_provider_limit(headers, "tokens") == limit
    assert read_provider_limit(headers, "requests") is None
