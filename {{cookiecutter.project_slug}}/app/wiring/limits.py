"""The rate budgets of the service: the provider's tier, and one for each client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.clients import Client
from app.ratelimit.base import Budget, Unit
from app.ratelimit.headers import read_provider_limit
from app.ratelimit.memory import RateLimiter
from app.settings import Settings

TIER = "provider"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The budgets that calls are charged to, and the limiter that counts them.

    `client` holds the budgets of any one client. Each of `processes` that count by themselves has
    its share of a limit.
    """

    limiter: RateLimiter
    tier: Sequence[Budget]
    client: Sequence[Budget]
    processes: int

    def budgets(self, client: Client) -> Sequence[Budget]:
        """Return the budgets of a call of this client: it is charged to all of them or to none."""
        own = [replace(budget, key=f"client:{client.name}") for budget in self.client]
        return [*self.tier, *own]

    def uploads(self, client: Client) -> Sequence[Budget]:
        """Return the budgets of a request of this client that needs no provider."""
        own = (budget for budget in self.budgets(client) if budget.key != TIER)
        return [budget for budget in own if budget.unit == "requests"]

    def correct(self, headers: Mapping[str, str]) -> None:
        """Lower what is left of the tier to what the provider's headers report."""
        for budget in self.tier:
            if limit := read_provider_limit(headers, budget.unit):
                remaining, reset = limit
                share = remaining // self.processes
                self.limiter.correct(budget, remaining=share, reset=reset)


def build_limits(settings: Settings, limiter: RateLimiter, *, processes: int) -> RateLimits:
    """Build the budgets of the limits that are set."""

    def budgets(key: str, setting: str) -> Sequence[Budget]:
        units: tuple[Unit, ...] = ("requests", "tokens")
        limits = {unit: getattr(settings, f"{setting}_{unit}") for unit in units}
        return [
            Budget(key, unit, limit // processes, settings.rate_limit_window)
            for unit, limit in limits.items()
            if limit is not None
        ]

    return RateLimits(
        limiter=limiter,
        tier=budgets(TIER, "rate_limit"),
        client=budgets("client", "client_rate_limit"),
        processes=processes,
    )
