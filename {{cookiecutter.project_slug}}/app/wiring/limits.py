"""The rate budgets of the service: the provider's tier, and one for each client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.clients import Client
from app.ratelimit.memory import MemoryRateLimiter
from app.ratelimit.protocol import Budget, RateLimiter, Unit
from app.ratelimit.provider_headers import read_provider_limits
from app.settings import Settings

TIER = "provider"


@dataclass(frozen=True, slots=True)
class RateLimits:
    """The budgets that calls are charged to, and the limiter that counts them.

    There is no budget for a limit of None. Each of `processes` that count by themselves has its
    share of a limit.
    """

    limiter: RateLimiter
    tier: Mapping[Unit, int | None]
    client: Mapping[Unit, int | None]
    window: float
    processes: int

    def budgets(self, client: Client) -> Sequence[Budget]:
        """Return the budgets of a call of this client: it is charged to all of them or to none."""
        return [*self._budgets(TIER, self.tier), *self._own(client)]

    def uploads(self, client: Client) -> Sequence[Budget]:
        """Return the budgets of a request of this client that needs no provider."""
        return [budget for budget in self._own(client) if budget.unit == "requests"]

    def correct(self, headers: Mapping[str, str]) -> None:
        """Lower what is left of the tier to what the provider's headers say is left."""
        limits = read_provider_limits(headers)
        for budget in self._budgets(TIER, self.tier):
            if left := limits.get(budget.unit):
                share = left.remaining // self.processes
                self.limiter.correct(budget, remaining=share, reset=left.reset)

    def _own(self, client: Client) -> Sequence[Budget]:
        return self._budgets(f"client:{client.name}", self.client)

    def _budgets(self, key: str, limits: Mapping[Unit, int | None]) -> Sequence[Budget]:
        return [
            Budget(key, unit, limit=limit // self.processes, window=self.window)
            for unit, limit in limits.items()
            if limit is not None
        ]


def limits_in_process(settings: Settings) -> RateLimits:
    """Count in this process, with its share of the limits."""
    return RateLimits(
        limiter=MemoryRateLimiter(),
        tier={"requests": settings.rate_limit_requests, "tokens": settings.rate_limit_tokens},
        client={
            "requests": settings.client_rate_limit_requests,
            "tokens": settings.client_rate_limit_tokens,
        },
        window=settings.rate_limit_window,
        processes=settings.workers,
    )
