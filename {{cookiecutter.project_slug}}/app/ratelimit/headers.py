"""The header fields of rate limits: those a response carries, and those a provider sends.

Responses carry `RateLimit` and `RateLimit-Policy` as in draft-ietf-httpapi-ratelimit-headers-10:
each budget by its name, with quota `q`, unit `qu` and window `w`, with what remains, `r`, and the
seconds until more comes back, `t`. They are rounded up, so a client that waits is never early.

Read are OpenAI's `x-ratelimit-remaining-*` and Anthropic's `anthropic-ratelimit-*-remaining` with
their resets. Sources: https://platform.openai.com/docs/guides/rate-limits,
https://platform.claude.com/docs/en/api/rate-limits. Needs: `base`, `app.errors`.
"""

import math
import re
from collections.abc import Iterable, Mapping

from app.errors import parse_retry_after

from .base import BudgetStatus, Unit

PROVIDER_FIELDS = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}"),
    ("anthropic-ratelimit-{}-remaining", "anthropic-ratelimit-{}-reset"),
)
NUMBER = re.compile(r"\d{1,15}", re.ASCII)


def rate_limit_fields(
    statuses: Iterable[BudgetStatus], *, retry_after: float | None = None
) -> dict[str, str]:
    """Return the header fields that tell a client the status of budgets; none for no budget.

    With a `Retry-After` (seconds) in the same response, budgets that come back later than that are
    left out of `RateLimit`, as the draft asks (section 5).
    """
    policies, limits = [], []
    for budget, remaining, reset in sorted(statuses, key=lambda status: status.budget.name):
        name, window = _string(budget.name), math.ceil(budget.window)
        policies.append(f'{name};q={budget.limit};qu="{budget.unit}";w={window}')
        if retry_after is None or reset <= retry_after:
            limits.append(f"{name};r={remaining};t={math.ceil(reset)}")
    fields = {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(limits)}
    return {name: value for name, value in fields.items() if value}


def read_provider_limit(headers: Mapping[str, str], unit: Unit) -> tuple[int, float | None] | None:
    """Return what the provider reports as left, and the seconds until it is whole again.

    None where it reports nothing usable. `headers` has lower-case names or ignores case.
    """
    for remaining, reset in PROVIDER_FIELDS:
        left = headers.get(remaining.format(unit), "")
        if NUMBER.fullmatch(left):
            return int(left), parse_retry_after(headers.get(reset.format(unit), ""))
    return None


def _string(text: str) -> str:
    """Return a String of RFC 9651: printable ASCII in quotes; anything else becomes "?"."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
