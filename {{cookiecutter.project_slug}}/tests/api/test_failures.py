"""What a client gets when an answer cannot begin, or breaks off after it has begun."""

import json
import socket
from typing import Any

import httpx
import pytest

from tests.service import (
    COMPLETION,
    EMBEDDING,
    QUESTION,
    SERVICE_KEY,
    Event,
    RunningService,
    at_upstream,
    error_of,
    serve,
    text_of,
)
from tests.upstream import Action, FakeUpstream, Script, Step, sse
from tests.upstream.wire import Request

ROUTES = (
    ("/chat", QUESTION),
    ("/v1/chat/completions", {**COMPLETION, "stream": True}),
    ("/v1/chat/completions", COMPLETION),
    ("/v1/embeddings", EMBEDDING),
)
AT_ONCE = {"retry-after-ms": "0"}
"""The provider's advice that lets the service try again without a pause."""


async def on_every_route(service: RunningService) -> list[httpx.Response]:
    """Ask on each route that needs the provider, one after the other."""
    return [await service.client.post(path, json=body) for path, body in ROUTES]


@pytest.mark.parametrize(
    ("status", "headers", "own_status", "kind"),
    [
        (429, {"retry-after": "17"}, 429, "provider_rate_limited"),
        (503, AT_ONCE, 503, "provider_overloaded"),
        (529, AT_ONCE, 503, "provider_overloaded"),
        (500, AT_ONCE, 502, "provider_unavailable"),
        (401, {}, 502, "provider_authentication"),
        (403, {}, 502, "provider_authentication"),
    ],
)
async def test_provider_status_decides(
    upstream: FakeUpstream, status: int, headers: dict[str, str], own_status: int, kind: str
) -> None:
    """What the provider says no with decides status and type, the same on every route."""
    upstream.script = Script(status=status, headers=headers)
    async with serve(**at_upstream(upstream)) as service:
        refused = await on_every_route(service)
        assert service.in_flight == 0
    assert {response.status_code for response in refused} == {own_status}
    assert {error_of(response)["type"] for response in refused} == {kind}


async def test_rate_limit_carries_the_providers_advice(upstream: FakeUpstream) -> None:
    """A 429 says when to come back: in whole seconds, rounded up, and exactly in the body."""
    upstream.script = Script(status=429, headers={"retry-after-ms": "16200"})
    async with serve(**at_upstream(upstream)) as service:
        for response in await on_every_route(service):
            assert response.headers["retry-after"] == "17"
            assert error_of(response)["retry_after"] == 16.2


async def test_refusal_that_can_heal_always_says_when(upstream: FakeUpstream) -> None:
    """A 429 or 503 has a Retry-After also where the provider gave none."""
    async with serve(**at_upstream(upstream)) as service:
        for status in (429, 503):
            upstream.script = Script(status=status)
            response = await service.client.post("/chat", json=QUESTION)
            assert response.status_code == status
            assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("status", "own_status"), [(400, 400), (404, 404), (413, 413), (422, 422), (409, 400)]
)
async def test_rejection_passes_the_providers_words_on(
    upstream: FakeUpstream, status: int, own_status: int
) -> None:
    """A request that the provider rejects is a 422 with its words; `/v1` keeps the status, too."""
    upstream.script = Script(status=status)
    async with serve(**at_upstream(upstream)) as service:
        chat, *openai = await on_every_route(service)
    assert (chat.status_code, error_of(chat)["type"]) == (422, "invalid_request")
    assert {response.status_code for response in openai} == {own_status}
    assert {error_of(response)["type"] for response in openai} == {"invalid_request_error"}
    words = {400: "maximum context length is 128000 tokens", 404: "Invalid URL"}
    fields = {400: ("messages", "context_length_exceeded")}
    for error in map(error_of, openai):
        assert words.get(status, "server had an error") in error["message"]
        assert (error["param"], error["code"]) == fields.get(status, (None, None))


async def test_refused_credentials_stay_secret(upstream: FakeUpstream) -> None:
    """When the provider refuses the service's key, no client sees it or the words about it."""
    upstream.script = Script(status=401)
    async with serve(**at_upstream(upstream)) as service:
        for response in await on_every_route(service):
            assert SERVICE_KEY in upstream.requests[-1].headers["authorization"]
            assert SERVICE_KEY not in response.text
            assert "Incorrect API key" not in response.text


@pytest.mark.parametrize("action", [Action.CUT, Action.RESET])
async def test_cut_before_the_first_token_is_502(upstream: FakeUpstream, action: Action) -> None:
    """A provider that hangs up before it has said anything is a bad gateway."""
    upstream.script = Script(before_event={1: action})
    async with serve(**at_upstream(upstream)) as service:
        response = await service.client.post("/chat", json=QUESTION)
    assert response.status_code == 502
    assert error_of(response)["type"] in {"provider_broken_stream", "provider_unavailable"}


async def test_unreachable_provider_is_502() -> None:
    """A provider that refuses connections is a bad gateway."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = {"llm_provider": "openai", "openai_base_url": f"http://127.0.0.1:{port}/v1"}
    async with serve(**settings) as service:
        response = await service.client.post("/v1/embeddings", json=EMBEDDING)
    assert response.status_code == 502
    assert error_of(response)["type"] == "provider_unavailable"


@pytest.mark.parametrize(
    "script",
    [
        Script(before_headers=Action.HOLD),
        Script(before_event={0: Action.HOLD}),
        Script(before_event={1: Action.HOLD}),
    ],
    ids=["headers", "body", "token"],
)
async def test_silent_provider_is_504(upstream: FakeUpstream, script: Script) -> None:
    """A provider that is silent until the first-token deadline is a gateway timeout."""
    upstream.script = script
    async with serve(**at_upstream(upstream, llm_timeout_first_token=0.05)) as service:
        for path, body in ROUTES[:2]:
            response = await service.client.post(path, json=body)
            assert response.status_code == 504
            assert error_of(response)["type"] == "provider_timeout"
            assert "first_token deadline of 0.05 s" in error_of(response)["message"]
        await upstream.wait_live(0)


async def test_silent_plain_call_is_504(upstream: FakeUpstream) -> None:
    """A whole answer that takes longer than the total deadline is a gateway timeout."""
    upstream.script = Script(before_headers=Action.HOLD)
    async with serve(**at_upstream(upstream, llm_timeout_total=0.05)) as service:
        for path, body in ROUTES[2:]:
            response = await service.client.post(path, json=body)
            assert response.status_code == 504
            assert "total deadline of 0.05 s" in error_of(response)["message"]
        await upstream.wait_live(0)


async def test_full_queue_is_503(upstream: FakeUpstream) -> None:
    """Where no more may wait, the next is refused at once, before the provider hears of it."""
    upstream.script = Script(before_event={2: Action.HOLD})
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_max_queue=0)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        for response in await on_every_route(service):
            assert response.status_code == 503
            assert error_of(response)["type"] == "queue_full"
            assert int(response.headers["retry-after"]) >= 1
        assert upstream.counts.received == 1


async def test_wait_that_is_too_long_is_503(upstream: FakeUpstream) -> None:
    """A request without a slot within the queue timeout is refused with a Retry-After."""
    upstream.script = Script(before_event={2: Action.HOLD})
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_queue_timeout=0.05)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        for path, body in ROUTES[1:]:
            response = await service.client.post(path, json=body)
            assert response.status_code == 503
            assert error_of(response)["type"] == "queue_timeout"
            assert int(response.headers["retry-after"]) >= 1
        assert upstream.counts.received == 1
        assert service.queued == 0


RATE_LIMITED = sse(
    {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}}
)
FAILURES: list[tuple[Step, str]] = [
    (Action.CUT, "provider_broken_stream"),
    (Action.RESET, "provider_broken_stream"),
    (Action.END, "provider_broken_stream"),
    (b"data: {garbage\n\n", "provider_broken_stream"),
    (Action.HOLD, "provider_timeout"),
    (RATE_LIMITED, "provider_rate_limited"),
]
IDS = ["cut", "reset", "end", "garbage", "hang", "error"]


def patience_with(failure: Step) -> dict[str, float]:
    """Return the deadlines: short ones for what only a deadline ends."""
    return {"llm_timeout_idle": 0.3} if failure is Action.HOLD else {}


def breaking(failure: Step) -> Script:
    """Say a token, wait to be released, say another, and fail."""
    return Script(tokens=3, before_event={2: Action.HOLD, 3: failure})


@pytest.mark.parametrize(("failure", "kind"), FAILURES, ids=IDS)
async def test_chat_ends_with_an_error_event(
    upstream: FakeUpstream, failure: Step, kind: str
) -> None:
    """After the first byte a failure is the last event, and there is no done."""
    upstream.script = breaking(failure)
    settings = at_upstream(upstream, **patience_with(failure))
    async with serve(**settings) as service, service.stream() as events:
        assert await anext(events) == Event("token", {"text": " token0"})
        upstream.release()
        *_, last = [event async for event in events]
        await service.idle()
    assert last.name == "error"
    assert last.data["type"] == kind
    assert last.data["message"]
    await upstream.wait_live(0)


@pytest.mark.parametrize(("failure", "kind"), FAILURES, ids=IDS)
async def test_completion_ends_with_an_error_object(
    upstream: FakeUpstream, failure: Step, kind: str
) -> None:
    """On /v1 the error is the last data, in OpenAI's shape, and no [DONE] follows."""
    upstream.script = breaking(failure)
    body = {**COMPLETION, "stream": True}
    settings = at_upstream(upstream, **patience_with(failure))
    async with (
        serve(**settings) as service,
        service.client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        lines = (line async for line in response.aiter_lines() if line)
        while "token0" not in await anext(lines):
            pass
        upstream.release()
        *_, last = [line async for line in lines]
    error: dict[str, Any] = json.loads(last.removeprefix("data: "))["error"]
    assert error["type"] == kind
    assert error.keys() >= {"message", "code", "param"}


async def test_error_event_says_when_to_come_back(upstream: FakeUpstream) -> None:
    """An error event has the type and retry_after that a refusal would have had."""
    upstream.script = breaking(RATE_LIMITED)
    async with serve(**at_upstream(upstream)) as service, service.stream() as events:
        await anext(events)
        upstream.release()
        *_, last = [event async for event in events]
        upstream.script = Script(status=429)
        refused = await service.client.post("/chat", json=COMPLETION)
    error = refused.json()["error"]
    assert last.data["type"] == error["type"] == "provider_rate_limited"
    assert last.data["retry_after"] == error["retry_after"] > 0


async def test_wait_that_is_too_long_after_queued(upstream: FakeUpstream) -> None:
    """A client that has seen its position and gets no slot receives an error event."""
    upstream.script = Script(before_event={2: Action.HOLD})
    settings = at_upstream(upstream, llm_max_concurrency=1, llm_queue_timeout=0.05)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        queued, error = await service.chat()
        assert upstream.counts.received == 1
    assert queued == Event("queued", {"position": 1})
    assert error.name == "error"
    assert error.data["type"] == "queue_timeout"
    assert error.data["retry_after"] > 0


async def test_failure_after_queued_is_an_event(upstream: FakeUpstream) -> None:
    """When the response has started with `queued`, the provider's refusal is an event too."""
    upstream.queue.append(Script(before_event={2: Action.HOLD}))
    upstream.script = Script(status=401)
    settings = at_upstream(upstream, llm_max_concurrency=1)
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        async with service.stream() as events:
            assert (await anext(events)).name == "queued"
            upstream.release()
            rest = [event async for event in events]
    assert [(event.name, event.data["type"]) for event in rest] == [
        ("error", "provider_authentication")
    ]


SLOTS = 10


def falling_back(upstream: FakeUpstream, to: str) -> dict[str, Any]:
    """Return settings for openai at this upstream, then `to`, under a ceiling that adapts."""
    return at_upstream(
        upstream,
        llm_adaptive=True,
        llm_max_concurrency=SLOTS,
        llm_provider=f"openai,{to}",
        llm_queue_timeout=3,
        anthropic_base_url=upstream.origin,
        anthropic_api_key="key",
    )


def limited(retry_after: int) -> Script:
    """Make the refusal of a provider whose rate is used up."""
    return Script(status=429, headers={"retry-after": str(retry_after)})


async def answers(service: RunningService, requests: int) -> list[str]:
    """Ask one after the other; return the texts of the answers, which are whole."""
    texts = []
    for _ in range(requests):
        events = await service.chat()
        assert events[-1].name == "done"
        texts.append(text_of(events))
    return texts


@pytest.mark.parametrize("retry_after", [7, 120])
async def test_refusal_of_the_first_stops_nobody(upstream: FakeUpstream, retry_after: int) -> None:
    """While the first provider asks to be left alone, it is, and the next answers at once."""
    upstream.script = limited(retry_after)
    async with serve(**falling_back(upstream, "echo")) as service:
        assert await answers(service, 3) == [QUESTION["messages"][0]["content"]] * 3
        assert service.services.limiter.limit == SLOTS
    assert upstream.counts.received == 1


async def test_embeddings_wait_for_the_first_alone(upstream: FakeUpstream) -> None:
    """Embeddings have no fallback: the refusal says how long the first provider is skipped."""
    upstream.script = limited(40)
    async with serve(**falling_back(upstream, "echo")) as service:
        await answers(service, 1)
        refused = await service.client.post("/v1/embeddings", json=EMBEDDING)
    assert (refused.status_code, error_of(refused)["type"]) == (429, "provider_rate_limited")
    assert 0 < error_of(refused)["retry_after"] <= 40
    assert upstream.counts.received == 1


async def test_shortest_wait_is_told_when_all_refuse(upstream: FakeUpstream) -> None:
    """When every provider is skipped, the refusal says when the first of them is back."""

    def script(request: Request) -> Script:
        return limited(40 if request.path == "/v1/messages" else 50)

    upstream.script = script
    async with serve(**falling_back(upstream, "anthropic")) as service:
        refused = [await service.client.post("/chat", json=QUESTION) for _ in range(2)]
    assert [response.status_code for response in refused] == [429, 429]
    assert {error_of(response)["type"] for response in refused} == {"provider_rate_limited"}
    assert error_of(refused[0])["retry_after"] == 40
    assert 0 < error_of(refused[1])["retry_after"] < 40
    assert upstream.counts.received == 2


async def test_load_that_nobody_bears_lowers_the_ceiling(upstream: FakeUpstream) -> None:
    """The last provider's refusal is everybody's, and the ceiling follows it."""
    upstream.script = Script(status=503, headers=AT_ONCE)
    async with serve(**falling_back(upstream, "anthropic")) as service:
        refused = await service.client.post("/chat", json=QUESTION)
        assert refused.status_code == 503
        assert 1 <= service.services.limiter.limit < SLOTS


async def test_load_that_the_fallback_bears_leaves_the_ceiling(upstream: FakeUpstream) -> None:
    """The first provider's refusals are no reason to let fewer calls through to the next."""
    upstream.script = Script(status=503, headers=AT_ONCE)
    async with serve(**falling_back(upstream, "echo")) as service:
        await answers(service, 2)
        assert service.services.limiter.limit == SLOTS
