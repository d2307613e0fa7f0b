"""The `RateLimit` and `RateLimit-Policy` response header fields.

As in draft-ietf-httpapi-ratelimit-headers-10 (September 2025): lists of policies by name, with
their quota `q`, quota unit `qu` and window `w`, and with what remains, `r`, and the seconds
until more comes back, `t`. The draft registers no unit for tokens; "tokens" is ours.

Whole seconds are rounded up, so a client that heeds them is never early. Needs: `protocol`.
"""

import math
from collections.abc import Iterable

from .protocol import Standing


def rate_limit_fields(
    standings: Iterable[Standing], *, retry_after: float | None = None
) -> dict[str, str]:
    """Return the header fields that tell a client how its budgets stand; none for no budget.

    With a `Retry-After` (seconds) in the same response, budgets that come back later than that are
    left out of `RateLimit`, as the draft asks (section 5).
    """
    told = sorted(standings, key=lambda standing: standing.budget.name)
    limits = [s for s in told if retry_after is None or s.reset <= retry_after]
    fields = {
        "RateLimit-Policy": ", ".join(map(_policy, told)),
        "RateLimit": ", ".join(map(_limit, limits)),
    }
    return {name: value for name, value in fields.items() if value}


def _policy(standing: Standing) -> str:
    budget = standing.budget
    window = max(1, math.ceil(budget.window))
    return f'{_string(budget.name)};q={budget.limit};qu="{budget.unit}";w={window}'


def _limit(standing: Standing) -> str:
    return f"{_string(standing.budget.name)};r={standing.remaining};t={math.ceil(standing.reset)}"


def _string(text: str) -> str:
    """Return a String of RFC 9651: printable ASCII in quotes; anything else becomes "?"."""
    printable = "".join(c if " " <= c <= "~" else "?" for c in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'
