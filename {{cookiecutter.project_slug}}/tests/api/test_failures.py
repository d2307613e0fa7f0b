"""What a client gets when an answer cannot begin, or breaks off after it has begun."""

import json
from math import ceil
from typing import Any

import httpx
import pytest

from app.api.errors import DEFAULT_RETRY_AFTER
from app.llm.sse import SSEDecoder
from tests.service import (
    EMBEDDING,
    QUESTION,
    ROUTES,
    SERVICE_KEY,
    STREAMS,
    Event,
    RunningService,
    at_upstream,
    error_of,
    events_of,
    serve,
    text_of,
)
from tests.upstream import Action, FakeUpstream, Script, Step, sse
from tests.upstream.wire import Request

AT_ONCE = {"retry-after-ms": "0"}
"""The provider's advice that lets the service try again without a pause."""


async def on_every_route(service: RunningService) -> list[httpx.Response]:
    """Ask on each route that needs the provider, one after the other."""
    return [await service.client.post(path, json=body) for path, body in ROUTES]


@pytest.mark.parametrize(
    ("status", "headers", "own_status", "kind", "retry_after"),
    [
        (429, {"retry-after-ms": "16200"}, 429, "provider_rate_limited", 16.2),
        (429, {}, 429, "provider_rate_limited", DEFAULT_RETRY_AFTER),
        (503, AT_ONCE, 503, "provider_overloaded", 0.0),
        (529, AT_ONCE, 503, "provider_overloaded", 0.0),
        (500, AT_ONCE, 502, "provider_unavailable", 0.0),
        (401, {}, 502, "provider_authentication", None),
        (403, {}, 502, "provider_authentication", None),
    ],
)
async def test_provider_status_decides(
    upstream: FakeUpstream,
    status: int,
    headers: dict[str, str],
    own_status: int,
    kind: str,
    retry_after: float | None,
) -> None:
    """The provider's status decides status and type, the same on every route.

    A 429 or 503 always has a Retry-After. No client sees the service's key, or words about it.
    """
    upstream.script = Script(status=status, headers=headers)
    async with serve(**at_upstream(upstream)) as service:
        for response in await on_every_route(service):
            assert (response.status_code, error_of(response)["type"]) == (own_status, kind)
            assert error_of(response).get("retry_after") == retry_after
            if retry_after is not None:
                assert response.headers["retry-after"] == str(ceil(retry_after))
            assert SERVICE_KEY in upstream.requests[-1].headers["authorization"]
            assert SERVICE_KEY not in response.text
            assert "Incorrect API key" not in response.text
        assert service.in_flight == 0


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


async def test_cut_or_unreachable_provider_is_502(upstream: FakeUpstream) -> None:
    """A provider that hangs up before the first token, or refuses connections, is a bad gateway."""
    async with FakeUpstream() as gone:
        pass
    async with serve(**at_upstream(upstream)) as service:
        for action in (Action.CUT, Action.RESET):
            upstream.script = Script(before_event={1: action})
            cut = await service.client.post("/chat", json=QUESTION)
            assert cut.status_code == 502
            assert error_of(cut)["type"] in {"provider_broken_stream", "provider_unavailable"}
    async with serve(**at_upstream(gone)) as service:
        unreachable = await service.client.post("/v1/embeddings", json=EMBEDDING)
    assert (unreachable.status_code, error_of(unreachable)["type"]) == (502, "provider_unavailable")


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
    """A provider that is silent until a deadline is a gateway timeout: first token, or total."""
    upstream.script = script
    deadlines = {"llm_timeout_first_token": 0.05, "llm_timeout_total": 0.1}
    async with serve(**at_upstream(upstream, **deadlines)) as service:
        for response, route in zip(await on_every_route(service), ROUTES, strict=True):
            name = "first_token deadline of 0.05" if route in STREAMS else "total deadline of 0.1"
            assert (response.status_code, error_of(response)["type"]) == (504, "provider_timeout")
            assert f"{name} s" in error_of(response)["message"]
        await upstream.wait_live(0)


@pytest.mark.parametrize(
    ("setting", "kind"), [("llm_max_queue", "queue_full"), ("llm_queue_timeout", "queue_timeout")]
)
async def test_no_slot_is_503(upstream: FakeUpstream, setting: str, kind: str) -> None:
    """A full queue, or a wait that is too long, refuses before the provider hears of it."""
    upstream.script = Script(before_event={2: Action.HOLD})
    value = {"llm_max_queue": 0, "llm_queue_timeout": 0.05}[setting]
    settings = at_upstream(upstream, llm_max_concurrency=1, **{setting: value})
    async with serve(**settings) as service, service.stream() as first:
        await anext(first)
        chat, *others = await on_every_route(service)
        for response in others if kind == "queue_timeout" else [chat, *others]:
            assert (response.status_code, error_of(response)["type"]) == (503, kind)
            assert int(response.headers["retry-after"]) >= 1
        if kind == "queue_timeout":  # the response began with `queued`
            queued, error = [event async for event in events_of(chat)]
            assert queued == Event("queued", {"position": 1})
            assert (error.name, error.data["type"]) == ("error", kind)
            assert error.data["retry_after"] > 0
        assert (upstream.counts.received, service.queued) == (1, 0)
        assert [model async for model in service.openai.models.list()]  # takes no slot


RATE_LIMITED = sse(
    {"error": {"message": "Slow down", "type": "requests", "code": "rate_limit_exceeded"}}
)
FAILURES: list[tuple[Step, str]] = [
    (Action.CUT, "provider_broken_stream"),
    (Action.RESET, "provider_broken_stream"),
    (Action.HOLD, "provider_timeout"),
    (RATE_LIMITED, "provider_rate_limited"),
]


@pytest.mark.parametrize(("path", "body"), STREAMS)
@pytest.mark.parametrize(("failure", "kind"), FAILURES, ids=["cut", "reset", "hang", "error"])
async def test_failure_after_the_first_byte_is_the_last_event(
    upstream: FakeUpstream, path: str, body: dict[str, Any], failure: Step, kind: str
) -> None:
    """There is no done and no [DONE]; the error has the type and retry_after of a refusal."""
    upstream.script = Script(tokens=3, before_event={2: Action.HOLD, 3: failure})
    idle = {"llm_timeout_idle": 0.3} if failure is Action.HOLD else {}
    async with (
        serve(**at_upstream(upstream, **idle)) as service,
        service.client.stream("POST", path, json=body) as response,
    ):
        received = response.aiter_bytes()
        while b"token0" not in await anext(received):
            pass
        upstream.release()
        rest = b"".join([piece async for piece in received])
        await upstream.wait_live(0)
    *_, last = SSEDecoder().feed(rest)
    error = json.loads(last[1])
    if path == "/chat":
        assert last[0] == "error"
    else:
        error = error["error"]
        assert error.keys() >= {"code", "param"}
    assert b"[DONE]" not in rest
    assert b"event: done" not in rest
    assert (error["type"], bool(error["message"])) == (kind, True)
    assert (error.get("retry_after", 0) > 0) == (kind == "provider_rate_limited")


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
