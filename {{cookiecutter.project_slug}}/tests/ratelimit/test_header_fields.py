"""The `RateLimit` and `RateLimit-Policy` fields are those of the IETF draft."""

from app.ratelimit.header_fields import rate_limit_fields
from app.ratelimit.protocol import Budget, Standing

REQUESTS = Standing(Budget("client:a", "requests", 60), remaining=59, reset=12.01)
TOKENS = Standing(Budget("client:a", "tokens", 1000, window=0.5), remaining=0, reset=0)


def test_fields_tell_policy_and_standing() -> None:
    """Each budget is a policy by its name, with quota, unit and window, and what is left of it."""
    assert rate_limit_fields([TOKENS, REQUESTS]) == {
        "RateLimit-Policy": '"client:a:requests";q=60;qu="requests";w=60, '
        '"client:a:tokens";q=1000;qu="tokens";w=1',
        "RateLimit": '"client:a:requests";r=59;t=13, "client:a:tokens";r=0;t=0',
    }


def test_reset_is_not_after_retry_after() -> None:
    """Beside a `Retry-After`, nothing is said of budgets that come back later than that."""
    fields = rate_limit_fields([TOKENS, REQUESTS], retry_after=12)
    assert fields["RateLimit"] == '"client:a:tokens";r=0;t=0'
    assert "requests" in fields["RateLimit-Policy"]
    assert "RateLimit" not in rate_limit_fields([REQUESTS], retry_after=12)


def test_no_budget_no_field() -> None:
    """Where nothing is limited there is nothing to say: an empty list is no valid field."""
    assert rate_limit_fields([]) == {}


def test_names_are_structured_field_strings() -> None:
    """Quotes and backslashes in a name are escaped, and what is not printable ASCII is replaced."""
    standing = Standing(Budget('a"\\é\r\nX: y', "tokens", 1), remaining=1, reset=0)
    assert rate_limit_fields([standing])["RateLimit"] == r'"a\"\\???X: y:tokens";r=1;t=0'
