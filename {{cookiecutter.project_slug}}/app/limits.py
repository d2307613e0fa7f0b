"""The rate budgets of this service: the provider's tier, and each client's own."""

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
    """Which budgets a call is charged to, and the limiter that keeps them.

    A limit that is None is not kept. `processes` is how many keep their own books side by side:
    each then has its share, since nobody sees the sum.
    """

    limiter: RateLimiter
    tier: Mapping[Unit, int | None]
    client: Mapping[Unit, int | None]
    window: float
    processes: int

    def budgets(self, client: Client) -> Sequence[Budget]:
        """Return the budgets that a call of this client is charged to, all or none."""
        return [*self._budgets(TIER, self.tier), *self._own(client)]

    def uploads(self, client: Client) -> Sequence[Budget]:
        """Return the budgets that a request of this client is charged to which asks no provider."""
        return [budget for budget in self._own(client) if budget.unit == "requests"]

    def hear(self, headers: Mapping[str, str]) -> None:
        """Take the provider's own word for what is left of the tier, if it is less."""
        said = read_provider_limits(headers)
        for budget in self._budgets(TIER, self.tier):
            if left := said.get(budget.unit):
                share = left.remaining // self.processes
                self.limiter.correct(budget, remaining=share, reset=left.reset)

    def _own(self, client: Client) -> Sequence[Budget]:
        return self._budgets(f"client:{client.name}", self.client)

    def _budgets(self, key: str, limits: Mapping[Unit, int | None]) -> Sequence[Budget]:
        return [
            Budget(key, unit, limit=max(1, limit // self.processes), window=self.window)
            for unit, limit in limits.items()
            if limit is not None
        ]


def limits_in_process(settings: Settings) -> RateLimits:
    """Keep the settings' budgets in this process, with its share of them."""
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
