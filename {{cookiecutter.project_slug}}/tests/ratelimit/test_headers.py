"""The fields of responses are those of the IETF draft, and the providers' fields are understood."""

import pytest

from app.ratelimit.base import Budget, BudgetStatus
from app.ratelimit.headers import rate_limit_fields, read_provider_limit

REQUESTS = BudgetStatus(Budget("client:a", "requests", 60), remaining=59, reset=12.01)
TOKENS = BudgetStatus(Budget('"\\é\n', "tokens", 1000, window=0.5), remaining=0, reset=0)


def test_fields_of_a_response() -> None:
    """Each budget is a policy and a status by its name, as a string of RFC 9651."""
    assert rate_limit_fields([REQUESTS, TOKENS]) == {
        "RateLimit-Policy": r'"\"\\??:tokens";q=1000;qu="tokens";w=1, '
        '"client:a:requests";q=60;qu="requests";w=60',
        "RateLimit": r'"\"\\??:tokens";r=0;t=0, "client:a:requests";r=59;t=13',
    }


@pytest.mark.parametrize(
    ("statuses", "names"),
    [
        ((), []),
        ((REQUESTS,), ["RateLimit-Policy"]),
        ((TOKENS, REQUESTS), ["RateLimit-Policy", "RateLimit"]),
    ],
)
def test_reset_is_not_after_retry_after(
    statuses: tuple[BudgetStatus, ...], names: list[str]
) -> None:
    """Beside a `Retry-After`, budgets that come back later are left out."""
    fields = rate_limit_fields(statuses, retry_after=12)
    assert list(fields) == names
    assert "requests" not in fields.get("RateLimit", "")


@pytest.mark.parametrize(
    ("remaining", "reset", "limit"),
    [
        ("59", "6m0s", (59, 360.0)),
        ("0", "soon", (0, None)),
        ("5", "2020-01-01T12:00:30Z", (5, 0.0)),
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
