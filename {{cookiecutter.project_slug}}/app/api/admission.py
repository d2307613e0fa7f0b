"""One request's way in, and what it holds until it is answered.

A request is authenticated and counted, may have passages retrieved for it, waits for a slot,
reserves its rate budgets and opens the provider's stream. FastAPI closes the dependency after the
response, however that ended: a generator's `finally` may never run, a dependency's does. So
everything is given back exactly once: the provider's stream, then the reservation, then the slot.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Annotated

from fastapi import Depends

from app.api.auth import ClientDep
from app.api.metering import Meter, with_output_limit
from app.api.services import ServicesDep
from app.clients import Client
from app.concurrency.limiter import Slot
from app.lifespan import Services
from app.limits import TIER
from app.llm.base import ChunkStream, JSONObject, usage_of
from app.ratelimit.estimate import estimate_embeddings, estimate_text, estimate_tokens
from app.ratelimit.header_fields import rate_limit_fields
from app.retrieval.base import Retrieved
from app.retrieval.prompt import fit
from app.streaming.relay import Relay


class Admission:
    """What one admitted request holds: its slot, its reservation, the provider's stream."""

    def __init__(
        self, services: Services, client: Client, *, held: AsyncExitStack, response: AsyncExitStack
    ) -> None:
        self.services = services
        self._client = client
        self._held = held
        self._response = response
        self._budgets = services.limits.budgets(client)
        self.headers: dict[str, str] = {}
        """How the client's own budgets stood when its call was reserved; none before that."""

    async def retrieve(self, question: str) -> Retrieved:
        """Find what the answer may be made from, as much as the settings allow; no slot is held.

        A used-up budget and a full queue are refused before retrieval costs anything. No place is
        kept, so `acquire` may still refuse.
        """
        self.services.limits.limiter.check(self._budgets)
        self.services.limiter.check_room(self._client.name)
        retrieved = await self.services.retrieval.retriever.retrieve(question)
        settings = self.services.settings
        best = retrieved.found[: settings.retrieval_passages]
        found = fit(best, budget=settings.retrieval_tokens, estimate=estimate_text)
        return replace(retrieved, found=found)

    def acquire(self) -> Slot:
        """Take a slot or a place in the queue; QueueFull where neither is left.

        A budget that is known to be used up is refused here already, as RateLimited.
        """
        self.services.limits.limiter.check(self._budgets)
        return self._held.enter_context(self.services.limiter.acquire(self._client.name))

    async def open(self, request: JSONObject) -> ChunkStream:
        """Open the provider's answer, up to its first token; the slot must be held.

        RateLimited or CostAboveLimit where a budget has too little left.
        """
        bounded = await self._reserve(request)
        with self.meter.noting_refusal():
            return await self._held.enter_async_context(self.services.provider.stream(bounded))

    async def call(
        self, call: Callable[[JSONObject], Awaitable[JSONObject]], request: JSONObject
    ) -> JSONObject:
        """Make one plain call of the provider, on the same terms as `open`."""
        bounded = await self._reserve(request)
        with self.meter.noting_refusal():
            answer = await call(bounded)
        self.meter.usage = usage_of(answer)
        return answer

    async def _reserve(self, request: JSONObject) -> JSONObject:
        """Reserve the most that `request` may cost, and return it bounded to that."""
        if any(budget.unit == "tokens" for budget in self._budgets):
            request = with_output_limit(request, self.services.settings.llm_max_tokens)
        reservation = await self.services.limits.limiter.reserve(
            self._budgets, tokens=_estimate(request)
        )
        own = [standing for standing in reservation.standings if standing.budget.key != TIER]
        self.headers = rate_limit_fields(own)
        self.meter = Meter(reservation, request, self.services.metrics)
        self._held.callback(self.meter.settle)
        return request

    def relay(self, relay: Relay) -> None:
        """Close `relay` when the response is over, and end it with an error if the drain is."""
        self._response.push_async_callback(relay.aclose)
        self._response.enter_context(self.services.drain.cutting_off(relay.interrupt))

    async def release(self) -> None:
        """Give back the stream and the slot: the answer is whole, only its reader is left."""
        await self._held.aclose()


def _estimate(request: JSONObject) -> int:
    """Return the most tokens that a chat or an embeddings request may cost."""
    if "messages" in request:
        return estimate_tokens(request, default_max_tokens=0)
    return estimate_embeddings(request)


async def admit(services: ServicesDep, client: ClientDep) -> AsyncIterator[Admission]:
    """Let a request in until its response is sent; DrainingError while the service stops."""
    with services.drain.admit():
        async with AsyncExitStack() as response, AsyncExitStack() as held:
            yield Admission(services, client, held=held, response=response)


AdmissionDep = Annotated[Admission, Depends(admit)]
