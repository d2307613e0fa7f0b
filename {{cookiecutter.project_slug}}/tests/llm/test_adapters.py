"""Requests in both wire formats, and usage; what answers mean is in `tests/api/test_answers.py`."""

from typing import Any

import httpx
import pytest

from app.llm.anthropic import AnthropicProvider
from app.llm.base import MAX_TOKENS, ProviderRejectedError, Usage, usage_of
from app.llm.openai import OpenAIProvider
from tests.upstream import Action, FakeUpstream, Script, sse

from . import KEY, QUESTION, ask, both_ways


@both_ways
@pytest.mark.parametrize("renames", [True, False])
async def test_the_limit_can_have_its_newer_name(
    client: httpx.AsyncClient, upstream: FakeUpstream, *, renames: bool, stream: bool
) -> None:
    """OpenAI's newer models refuse `max_tokens`; a compatible server gets what the client sent."""
    provider = OpenAIProvider(client, base_url=f"{upstream.base_url}/", renames_max_tokens=renames)
    request = QUESTION | {"max_tokens": 5}
    await (ask(provider, request) if stream else provider.complete(request))
    name = "max_completion_tokens" if renames else "max_tokens"
    (sent,) = upstream.requests
    assert sent.json.keys() & {"max_tokens", "max_completion_tokens"} == {name}
    assert "authorization" not in sent.headers, "a server without keys gets no empty one"
    assert not stream or sent.headers["accept-encoding"] == "identity"


async def test_anthropic_has_its_own_requests(
    client: httpx.AsyncClient, upstream: FakeUpstream
) -> None:
    """Headers, limit and models are translated; embeddings are refused without a call."""
    provider = AnthropicProvider(client, base_url=f"{upstream.base_url}/", api_key=KEY)
    await ask(provider)
    await provider.complete(QUESTION)
    assert (await provider.models())[0] == {
        "id": "claude-fake", "object": "model", "created": 1_767_323_045, "owned_by": "anthropic",
    }  # fmt: skip
    with pytest.raises(ProviderRejectedError, match="no embeddings"):
        await provider.embed({"model": "claude", "input": "Hi"})
    streamed, plain, _models = upstream.requests
    assert streamed.path == "/v1/messages"
    assert streamed.headers["x-api-key"] == KEY
    assert streamed.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in streamed.headers
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi?"}]}]
    for sent, stream in ((streamed, True), (plain, False)):
        assert sent.json == QUESTION | {
            "max_tokens": 16_384, "messages": messages, "stream": stream,
        }  # fmt: skip


@pytest.mark.parametrize("ping", [sse(b"now", "ping"), b": wait\n\n"])
async def test_a_ping_is_a_sign_of_life(
    client: httpx.AsyncClient, upstream: FakeUpstream, ping: bytes
) -> None:
    """A ping arrives as a batch without chunks, so that thinking is not silence."""
    start = sse({"type": "message_start", "message": {}})
    held = {len(start): Action.HOLD, len(start + ping): Action.HOLD}
    upstream.script = Script(body=start + ping + b" ", at_byte=held)
    provider = AnthropicProvider(client, base_url=upstream.origin)
    async with provider.stream(QUESTION) as batches:
        assert len(await anext(batches)) == 1
        await upstream.wait_held(1)
        upstream.release()
        assert await anext(batches) == []


async def test_white_space_may_come_long_before_json(
    client: httpx.AsyncClient, upstream: FakeUpstream
) -> None:
    """A server that keeps the connection open by white space has its whole answer read."""
    body = b'\n \n{"choices":[{"message":{"content":"Hi"}}]}'
    upstream.script = Script(body=body, at_byte={3: Action.HOLD})
    provider = OpenAIProvider(client, base_url=upstream.base_url)
    async with provider.stream(QUESTION) as batches:
        assert await anext(batches) == []
        await upstream.wait_held(1)
        upstream.release()
        assert [chunk.text async for batch in batches for chunk in batch] == ["Hi", ""]


ODD: list[Any] = [{}, [], "x", True, "7", -1, 7.5, MAX_TOKENS + 1]


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 40}, Usage(7, 33)),
        ({"prompt_tokens": 7, "total_tokens": 7}, Usage(7, 0)),
        ({"prompt_tokens": None, "completion_tokens": 5}, Usage(0, 5)),
        *((odd, None) for odd in (None, *ODD[:4])),
        *(({"prompt_tokens": 7, "completion_tokens": odd}, None) for odd in ODD),
    ],
)
def test_usage_is_read(usage: object, counted: Usage | None) -> None:
    """A missing count is zero, reasoning apart is counted, and what makes no sense is unknown."""
    assert usage_of({"usage": usage}) == counted
