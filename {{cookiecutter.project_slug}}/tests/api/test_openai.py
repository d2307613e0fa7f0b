"""`/v1`: OpenAI's own client works against the service unchanged."""

from typing import Any

import pytest
from openai import (
    APIStatusError,
    AsyncStream,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)
from openai.types.chat import ChatCompletionChunk

from tests.api.test_chat import SOURCE, Shelf, serve_from
from tests.service import (
    COMPLETION,
    QUESTION,
    STREAMED,
    RunningService,
    at_upstream,
    error_of,
    serve,
)
from tests.upstream import Action, FakeUpstream, Script

LATER = {"retry-after": "17"}


async def stream(service: RunningService, **options: Any) -> AsyncStream[ChatCompletionChunk]:
    """Start a streamed completion."""
    answer: AsyncStream[ChatCompletionChunk] = await service.openai.chat.completions.create(
        **COMPLETION, stream=True, **options
    )
    return answer


async def chunks(service: RunningService, **options: Any) -> list[ChatCompletionChunk]:
    """Return all chunks of a streamed completion."""
    return [chunk async for chunk in await stream(service, **options)]


async def test_usage_comes_where_it_was_asked_for(upstream: FakeUpstream) -> None:
    """With include_usage the last chunk is the usage; without, no chunk is without a choice."""
    upstream.script = Script(tokens=3)
    async with serve(**at_upstream(upstream)) as service:
        *_, last = await chunks(service, stream_options={"include_usage": True})
        plain = await chunks(service, stream_options={"include_usage": False})
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (7, 3)
    assert all(chunk.choices and chunk.usage is None for chunk in plain)


async def test_each_token_is_sent_when_it_comes(upstream: FakeUpstream) -> None:
    """The response starts with the provider's first token, while the rest is not yet said."""
    upstream.script = Script(tokens=2, before_event={2: Action.HOLD})
    async with serve(**at_upstream(upstream)) as service, await stream(service) as answer:
        contents = (chunk.choices[0].delta.content async for chunk in answer)
        assert [await anext(contents) for _ in range(2)] == ["", " token0"]
        upstream.release()
        assert await anext(contents) == " token1"


async def test_ends_with_the_end_mark(upstream: FakeUpstream) -> None:
    """[DONE] is the last event of a stream, and comes once."""
    async with serve(**at_upstream(upstream)) as service:
        response = await service.client.post("/v1/chat/completions", json=STREAMED)
    assert response.text.endswith("}\n\ndata: [DONE]\n\n")
    assert response.text.count("[DONE]") == 1


@pytest.mark.parametrize("streamed", [True, False])
async def test_unknown_request_fields_reach_the_provider(
    upstream: FakeUpstream, streamed: bool
) -> None:
    """What the service has never heard of is passed on as it came, at every depth."""
    unknown = {"from_the_future": {"nested": [1, None, {"deep": "ü"}]}, "logit_bias": {"1": -1}}
    messages = [{"role": "developer", "content": [{"type": "new", "x": 1}], "weight": 0.5}]
    body = {"model": "m", "messages": messages, "stream": streamed, **unknown}
    if streamed:
        body["stream_options"] = {"include_usage": True, "include_obfuscation": False}
    async with serve(**at_upstream(upstream)) as service:
        response = await service.client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200
    assert upstream.requests[-1].json == body


async def test_null_is_as_good_as_absent(upstream: FakeUpstream) -> None:
    """The optional fields may be null, as OpenAI allows."""
    nulls = {"stream": None, "stream_options": None, "model": None}
    async with serve(**at_upstream(upstream, llm_model="gpt-own")) as service:
        response = await service.client.post("/v1/chat/completions", json=COMPLETION | nulls)
    assert response.status_code == 200
    assert upstream.requests[-1].json["model"] == "gpt-own"


async def test_embeddings(upstream: FakeUpstream) -> None:
    """Embeddings are passed through, one vector for each input."""
    upstream.script = Script(dimensions=4)
    async with serve(**at_upstream(upstream)) as service:
        create = service.openai.embeddings.create
        answer = await create(model="e", input=["a", "b"], encoding_format="float", user="u")
        assert [item.embedding for item in answer.data] == [[0.0] * 4, [1.0] * 4]
        assert upstream.requests[-1].json["user"] == "u"
        for tokens in ([1, 2], [[1, 2], [3]]):
            await create(model="e", input=tokens)
            assert upstream.requests[-1].json["input"] == tokens


@pytest.mark.parametrize(
    ("script", "error", "status", "code"),
    [
        (Script(status=429, headers=LATER), RateLimitError, 429, "rate_limit_exceeded"),
        (Script(status=400), BadRequestError, 400, "context_length_exceeded"),
        (Script(status=404), NotFoundError, 404, None),
        (Script(status=401), InternalServerError, 502, "provider_authentication"),
        (Script(status=529, headers=LATER), InternalServerError, 503, "provider_overloaded"),
        (Script(before_headers=Action.HOLD), InternalServerError, 504, "provider_timeout"),
    ],
    ids=["429", "400", "404", "502", "503", "504"],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_failures_are_the_sdks_typed_errors(
    upstream: FakeUpstream,
    script: Script,
    error: type[APIStatusError],
    status: int,
    code: str | None,
    streamed: bool,
) -> None:
    """What fails before the first token is a typed error of the SDK, with OpenAI's code."""
    upstream.script = script
    deadline = 0.1 if status == 504 else 5.0
    settings = {"llm_timeout_first_token": deadline, "llm_timeout_total": deadline}
    async with serve(**at_upstream(upstream, **settings)) as service:
        with pytest.raises(error) as raised:
            await service.openai.chat.completions.create(**COMPLETION, stream=streamed)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert raised.value.request_id


RETRIEVE: dict[str, Any] = {"extra_body": {"retrieve": True}}


async def test_answers_from_sources(upstream: FakeUpstream) -> None:
    """With `retrieve` the first chunk, or the completion, carries the sources, as `/chat` does."""
    broken = Shelf("broken")
    broken.error = RuntimeError("down")
    async with serve_from(Shelf(), broken, **at_upstream(upstream)) as service:
        create = service.openai.chat.completions.create
        chunks = [chunk async for chunk in await create(**COMPLETION, **RETRIEVE, stream=True)]
        whole = await create(**COMPLETION, **RETRIEVE)
        plain = await create(**COMPLETION)
    extras = [chunk.model_extra or {} for chunk in chunks]
    expected = {"sources": [SOURCE], "degraded": [{"source": "broken", "reason": "failed"}]}
    assert extras[0].items() >= expected.items()
    assert not any("sources" in extra for extra in extras[1:])
    assert (whole.model_extra or {}).items() >= expected.items()
    assert "sources" not in (plain.model_extra or {})
    for body in [request.json for request in upstream.requests][:2]:
        assert "retrieve" not in body
        assert SOURCE["snippet"] in str(body["messages"])


@pytest.mark.parametrize("stream", [False, True])
async def test_other_models_are_refused(upstream: FakeUpstream, *, stream: bool) -> None:
    """LLM_MODELS_ALLOWED: any other model is not found, before money is spent."""
    settings = at_upstream(upstream, llm_models_allowed=("a", "b"), llm_max_concurrency=1)
    async with serve(**settings) as service:
        create = service.openai.chat.completions.create
        with pytest.raises(NotFoundError) as refused:
            await create(**{**COMPLETION, "model": "c"}, stream=stream)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        answer = await service.client.post("/chat", json={**QUESTION, "model": "c"})
        assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
        assert upstream.counts.received == 0
        assert await create(**{**COMPLETION, "model": "b"})
        assert await service.chat()  # the default model needs no permission
        assert [model.id async for model in service.openai.models.list()] == ["a", "b"]
