"""The official OpenAI client in front of the service, Anthropic's API behind it."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.service import RunningService, serve, text_of
from tests.upstream import Action, FakeUpstream, Script, ToolCall

from .asking import KEY
from .judges import assert_anthropic_accepts, calls_of

MODEL = "claude-fake"
QUESTION: list[Any] = [{"role": "user", "content": "How are you?"}]
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
IMAGE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


@pytest.fixture
async def service(upstream: FakeUpstream) -> AsyncIterator[RunningService]:
    """Run the service with Anthropic's API behind it."""
    async with serve(
        llm_provider="anthropic",
        llm_model=MODEL,
        anthropic_base_url=upstream.origin,
        anthropic_api_key=KEY,
    ) as service:
        yield service


async def test_openais_client_streams_calls_tools_and_sends_images(
    service: RunningService, upstream: FakeUpstream
) -> None:
    """A whole exchange of OpenAI's SDK is one that Anthropic understands."""
    upstream.script = script = Script(tool_calls=[ToolCall(id="toolu_1")])
    messages = [{"role": "user", "content": [{"type": "text", "text": "Here?"}, IMAGE]}]
    async with service.openai.chat.completions.stream(
        model=MODEL,
        messages=messages,  # type: ignore[arg-type]
        tools=[WEATHER],
        stream_options={"include_usage": True},
    ) as stream:
        answer = await stream.get_final_completion()
    said = answer.choices[0].message
    assert said.content == script.text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == script.completion_tokens
    ((identity, _, _),) = calls_of(said)
    messages += [
        said.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": identity, "content": "sunny"},
    ]
    upstream.script = Script(tokens=["Sunny."])
    plain = await service.openai.chat.completions.create(
        model=MODEL,
        messages=messages,  # type: ignore[arg-type]
        tools=[WEATHER],
    )
    assert plain.choices[0].message.content == "Sunny."
    assert_anthropic_accepts(upstream.requests[-1].json)


async def test_fields_for_anthropic_pass_through_openais_client(
    service: RunningService, upstream: FakeUpstream
) -> None:
    """What OpenAI's SDK sends as an extra field reaches Anthropic."""
    thinking = {"type": "adaptive"}
    await service.openai.chat.completions.create(
        model=MODEL, messages=QUESTION, extra_body={"thinking": thinking}
    )
    assert upstream.requests[-1].json["thinking"] == thinking


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (429, openai.RateLimitError),
        (529, openai.InternalServerError),
    ],
)
async def test_anthropics_errors_are_openais(
    service: RunningService,
    upstream: FakeUpstream,
    status: int,
    error: type[openai.APIStatusError],
) -> None:
    """OpenAI's SDK raises its own error for what Anthropic answered."""
    upstream.script = Script(status=status, headers={"retry-after": "17"})
    with pytest.raises(error):
        await service.openai.chat.completions.create(model=MODEL, messages=QUESTION, stream=True)


async def test_embeddings_say_that_there_are_none(service: RunningService) -> None:
    """A request that this provider never serves is a bad one."""
    with pytest.raises(openai.APIStatusError, match="no embeddings") as caught:
        await service.openai.embeddings.create(model=MODEL, input="Hi")
    assert 400 <= caught.value.status_code < 500


async def test_models_are_listed(service: RunningService) -> None:
    """OpenAI's SDK lists Anthropic's models."""
    listed = [model.id async for model in service.openai.models.list()]
    assert listed == ["claude-fake", "claude-fake-mini"]


async def test_chat_speaks_with_anthropic(service: RunningService, upstream: FakeUpstream) -> None:
    """The service's own endpoint works the same with this provider."""
    assert text_of(await service.chat()) == Script().text
    assert upstream.requests[-1].json["model"] == MODEL


async def test_hanging_up_closes_anthropics_request(
    service: RunningService, upstream: FakeUpstream
) -> None:
    """A client that goes away in mid-stream frees the provider at once."""
    upstream.script = Script(before_event={4: Action.HOLD}, chunk_size=64)
    stream = await service.openai.chat.completions.create(
        model=MODEL, messages=QUESTION, stream=True
    )
    await upstream.wait_live(1)
    await stream.close()
    await upstream.wait_aborted(1)
