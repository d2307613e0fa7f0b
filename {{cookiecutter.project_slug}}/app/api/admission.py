"""The pass of a request, from its key to its answer, and how to write an endpoint of your own.

    @router.post("/summarize")
    async def summarize(body: Text, request: Request, admission: AdmissionDep) -> EventStream:
        messages = [{"role": "system", "content": "Summarize."},
                    {"role": "user", "content": body.text}]
        return await admission.stream(request, {"messages": messages}, ChatEvents())

The request is authenticated and counted, may have passages retrieved for it, waits for a slot,
reserves its rate budgets and opens the provider's stream. FastAPI closes the dependency after the
response, however that ended: a generator's `finally` may never run, a dependency's does. So
everything is given back exactly once: the provider's stream, the reservation, the slot.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import ClientDisconnect

from app.api.stream import Events, EventStream, described, while_connected
from app.clients import Client, client_at
from app.concurrency.limiter import Slot
from app.errors import ModelNotAllowedError, UnauthorizedError
from app.lifespan import Services
from app.llm.base import (
    Chunk,
    JSONObject,
    ProviderAuthenticationError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    Usage,
    usage_of,
)
from app.ratelimit.base import Reservation
from app.ratelimit.estimate import LIMITS, estimate_prompt, estimate_text, estimate_tokens
from app.ratelimit.headers import rate_limit_fields
from app.retrieval.base import Retrieved
from app.retrieval.prompt import cite, fit, question_of
from app.wiring.limits import TIER

POSITION_INTERVAL = 1.0
"""Seconds between two looks at the place in the queue."""
NOTHING_USED = (
    ProviderAuthenticationError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
)

log = structlog.get_logger(__name__)
bearer = HTTPBearer(auto_error=False, description="One of the keys of API_KEYS")


async def services_of(request: Request) -> Services:
    """Return what the lifespan opened."""
    services: Services = request.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


async def authenticate(
    request: Request,
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Client:
    """Identify the client, by name in logs and budgets; UnauthorizedError if the key is unknown."""
    if services.keyring.is_open:
        client = client_at(request.client and request.client.host)
    else:
        known = credentials and services.keyring.client_with(credentials.credentials)
        if not known:
            raise UnauthorizedError("an API key is needed, as `Authorization: Bearer KEY`")
        client = known
    structlog.contextvars.bind_contextvars(client=client.name)
    return client


ClientDep = Annotated[Client, Depends(authenticate)]


@dataclass
class Answer:
    """What is known of an answer so far; `outcome` is final when `after` is called."""

    outcome: Literal["complete", "failed", "abandoned"] = "abandoned"
    error: Exception | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    texts: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """What chunks without text hold: reasoning, the arguments of tool calls."""

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.texts)

    def add(self, chunks: list[Chunk]) -> None:
        """Note what came from the provider."""
        for chunk in chunks:
            if text := chunk.text:
                self.texts.append(text)
            else:
                delta = chunk.delta
                reasoning = delta.reasoning_content or delta.reasoning or delta.reasoning_details
                calls = delta.tool_calls or delta.function_call
                self.others.append("".join(_strings([delta.content, reasoning, calls])))
            self.usage = chunk.usage or self.usage
            self.finish_reason = chunk.finish_reason or self.finish_reason

    def fail(self, error: Exception) -> None:
        """Note why there is no whole answer."""
        self.error = error
        if not isinstance(error, ClientDisconnect):
            self.outcome = "failed"

    def tokens(self, request: JSONObject) -> int | None:
        """Return the tokens that were used; None if that is unknown.

        That is what the provider counted; else, where the answer broke off, an estimate of the
        prompt and of what was received; nothing, where the provider refused.
        """
        if self.usage is not None:
            return self.usage.prompt_tokens + self.usage.completion_tokens
        if (self.texts or self.others) and not self.finish_reason:
            received = estimate_text(self.text) + estimate_text("".join(self.others))
            return estimate_prompt(request) + received
        return 0 if isinstance(self.error, NOTHING_USED) else None


After = Callable[[Answer], Awaitable[object]]
Call = Callable[[JSONObject], Awaitable[JSONObject]]


class Admission:
    """One admitted request: it holds a slot, a reservation and the provider's stream."""

    def __init__(
        self, services: Services, client: Client, *, held: AsyncExitStack, response: AsyncExitStack
    ) -> None:
        self.services = services
        self.client = client
        self.answer = Answer()
        self.headers: dict[str, str] = {}
        """How the client's own budgets stood when its call was reserved; none before that."""
        self._budgets = services.limits.budgets(client)
        self._held = held
        self._response = response

    async def stream(
        self,
        request: Request,
        question: JSONObject,
        events: Events,
        *,
        retrieve: bool = False,
        after: After | None = None,
    ) -> EventStream:
        """Answer an OpenAI chat body with a stream of events.

        Returns with the first event to send; a failure before that is raised, so that it has a
        status of its own. `after` is awaited once when the answer has ended, however it ended, and
        when everything is given back.
        """
        if after is not None:
            self._response.push_async_callback(self._run, after)

        def encode_error(error: Exception) -> bytes:
            self.answer.fail(error)
            return events.error(error)

        settings = self.services.settings
        stream = EventStream(
            self._events(question, events, retrieve=retrieve),
            encode_error,
            ping=settings.ping_interval,
            send_timeout=settings.send_timeout,
        )
        self._response.push_async_callback(stream.aclose)
        self._response.enter_context(self.services.drain.cutting_off(stream.interrupt))
        await while_connected(request, stream.open())
        stream.headers.update(self.headers)
        return stream

    async def whole(
        self, request: Request, call: Call, body: JSONObject, *, retrieve: bool = False
    ) -> JSONObject:
        """Make one plain call of the provider: `provider.complete` or `provider.embed`."""

        async def answer() -> JSONObject:
            question, retrieved = await self._prepare(body, retrieve=retrieve)
            await self._acquire().wait()
            answered = await call(await self._reserve(question))
            return answered | described(retrieved) if retrieved else answered

        async with self.services.drain.bound():
            answered = await while_connected(request, answer())
        self.answer.usage = usage_of(answered)
        await self._held.aclose()
        return answered

    async def _events(
        self, question: JSONObject, events: Events, *, retrieve: bool
    ) -> AsyncGenerator[bytes]:
        """Yield each piece of the answer that there is; a route may send nothing for some."""
        question, retrieved = await self._prepare(question, retrieve=retrieve)
        if retrieved:
            yield events.sources(retrieved)
        slot, last_position, within = self._acquire(), 0, 0.0
        while not await slot.wait(within):
            if slot.position != last_position:
                last_position = slot.position
                yield events.queued(last_position)
            within = POSITION_INTERVAL
        bounded = await self._reserve(question)
        opening = self.services.provider.stream(bounded)
        async for chunks in await self._held.enter_async_context(opening):
            self.answer.add(chunks)
            yield events.chunks(chunks)
        await self._held.aclose()  # only the client has still to read
        self.answer.outcome = "complete"
        yield events.end(self.answer)

    async def _prepare(
        self, question: JSONObject, *, retrieve: bool
    ) -> tuple[JSONObject, Retrieved | None]:
        """Refuse what can be refused early, then put what the sources find into the question.

        A full queue and, without Redis, a used-up budget refuse before retrieval costs anything. No
        place is kept, so `_acquire` may still refuse. No slot is held meanwhile.
        """
        settings = self.services.settings
        model = question.get("model")
        if model and settings.llm_models_allowed and model not in settings.llm_models_allowed:
            raise ModelNotAllowedError(f"the model {model!r} is not offered here")
        if self._budgets:
            self.services.limits.limiter.check(self._budgets)
        if not retrieve:
            return question, None
        self.services.limiter.check_room(self.client.name)
        retriever = self.services.retrieval.retriever
        retrieved = await retriever.retrieve(question_of(question["messages"]))
        best = retrieved.found[: settings.retrieval_passages]
        found = fit(best, budget=settings.retrieval_tokens, estimate=estimate_text)
        cited = {**question, "messages": cite(question["messages"], found)}
        return cited, replace(retrieved, found=found)

    def _acquire(self) -> Slot:
        """Take a slot or a place in the queue."""
        return self._held.enter_context(self.services.limiter.acquire(self.client.name))

    async def _reserve(self, request: JSONObject) -> JSONObject:
        """Reserve the most that `request` may cost, and return it bounded to that."""
        self._held.callback(self._count_usage)
        if not self._budgets:
            return request
        limiter, most = self.services.limits.limiter, self.services.settings.llm_max_tokens
        if any(budget.unit == "tokens" for budget in self._budgets):
            request = _with_output_limit(request, most)
        reservation = await limiter.reserve(self._budgets, tokens=estimate_tokens(request, most))
        self._held.callback(self._settle, reservation, request)
        own = [status for status in reservation.statuses if status.budget.key != TIER]
        self.headers |= rate_limit_fields(own)
        return request

    def _settle(self, reservation: Reservation, request: JSONObject) -> None:
        """Replace the estimate by what is known."""
        reservation.settle(tokens=self.answer.tokens(request))

    def _count_usage(self) -> None:
        if self.answer.usage is not None:
            self.services.metrics.count_usage(self.answer.usage)

    async def _run(self, after: After) -> None:
        try:
            await after(self.answer)
        except Exception:
            log.exception("the hook after the answer failed")


async def admit(services: ServicesDep, client: ClientDep) -> AsyncIterator[Admission]:
    """Let a request in until its response is sent; DrainingError while the service stops."""
    with services.drain.admit():
        async with AsyncExitStack() as response, AsyncExitStack() as held:
            admission = Admission(services, client, held=held, response=response)
            try:
                yield admission
            except Exception as error:  # before the response started
                admission.answer.fail(error)
                raise


AdmissionDep = Annotated[Admission, Depends(admit)]


def _with_output_limit(request: JSONObject, most: int) -> JSONObject:
    """Bound a chat request that names no maximum of its own, so that its cost is bounded."""
    named = (request.get(name) for name in LIMITS)
    if "messages" not in request or any(limit is not None for limit in named):
        return request
    return {**request, "max_tokens": most}


def _strings(value: object, levels: int = 20) -> Iterator[str]:
    """Find the texts in what a chunk adds, so many levels deep."""
    if isinstance(value, str):
        yield value
    elif levels and isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part, levels - 1)
