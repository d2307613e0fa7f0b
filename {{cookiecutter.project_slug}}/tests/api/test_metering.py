"""What an answer costs, and what its client gets, where it is broken or its usage is odd."""

import contextlib
from typing import Any

import httpx
import pytest

from app.llm.base import Usage
from app.telemetry.metrics import Metrics
from tests.service import COMPLETION, EMBEDDING, QUESTION, Event, at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script, ToolCall, sse

from .test_rate_limits import CHATS, PROMPT, STREAMED, TOKENS, ask, left

HELLO = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "12345678" * 50}]}
ODD_USAGE: list[Any] = [
    *(5, "x", {"prompt_tokens": "x"}, {"prompt_tokens": -5, "completion_tokens": -9}),
    *({"prompt_tokens": 1.5}, {"prompt_tokens": 10**400}),
]
PLENTY = 10**6


def broken(*deltas: object) -> Script:
    """Send all this before the first token of the answer, and cut it off after that."""
    events = [sse({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return Script(before_event={1: b"".join(events), 2: Action.CUT})


TEXT = Script(tokens=["12345678", "12345678", "lost"], before_event={3: Action.CUT})
WEATHER = ToolCall(arguments=["x" * 400, "lost"])
TOOL_CALL = Script(tokens=0, tool_calls=[WEATHER], before_event={2: Action.CUT})


@pytest.mark.parametrize(("path", "body"), CHATS[:2])
async def test_odd_usage_ends_no_stream(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """The answer is whole and costs its estimate, as one without any usage."""
    async with serve(**at_upstream(upstream, rate_limit_tokens=PLENTY)) as service:
        for number, usage in enumerate(ODD_USAGE, start=1):
            events = (HELLO, STOP, {"choices": [], "usage": usage}, b"[DONE]")
            upstream.script = Script(body=b"".join(map(sse, events)))
            answer = await ask(service, path, body)
            assert await left(service) == {TOKENS: PLENTY - number * (PROMPT + 4096)}
            assert "error" not in answer.text
            assert answer.text.endswith(('{"finish_reason":"stop"}\n\n', "data: [DONE]\n\n"))
            assert "event: usage" not in answer.text
            assert '"choices":[]' not in answer.text.replace(" ", ""), "no client asked for usage"


@pytest.mark.parametrize(
    ("path", "body", "cost"),
    [("/v1/chat/completions", COMPLETION, PROMPT + 4096), ("/v1/embeddings", EMBEDDING, 3)],
)
async def test_odd_usage_passes_through_whole_answers(
    upstream: FakeUpstream, path: str, body: dict[str, Any], cost: int
) -> None:
    """An answer in one piece is passed on as it came, and costs its estimate."""
    async with serve(**at_upstream(upstream, rate_limit_tokens=PLENTY)) as service:
        for number, usage in enumerate(ODD_USAGE, start=1):
            sent = {"id": "x", "choices": [], "usage": usage}
            upstream.script = Script(body=sse(sent).removeprefix(b"data: "))
            answer = await ask(service, path, body)
            assert await left(service) == {TOKENS: PLENTY - number * cost}
            assert (answer.status_code, answer.json()) == (200, sent)


async def test_content_that_is_no_text_is_no_token(upstream: FakeUpstream) -> None:
    """`/chat` sends the text of an answer and nothing else, always as a string."""
    upstream.script = broken({"content": [THOUGHT]}, {"content": 5}, {"refusal": {"a": 1}})
    async with serve(**at_upstream(upstream)) as service:
        *tokens, _ = await service.chat()
    assert tokens == [Event("token", {"text": Script().texts[0]})]


@pytest.mark.parametrize(("path", "body"), CHATS[:2])
async def test_a_chunk_may_have_null_for_its_choices(
    upstream: FakeUpstream, path: str, body: dict[str, Any]
) -> None:
    """Some servers send null where others send an empty list: the answer goes on."""
    events = (HELLO, {"choices": None}, STOP, b"[DONE]")
    upstream.script = Script(body=b"".join(map(sse, events)))
    async with serve(**at_upstream(upstream)) as service:
        answer = await ask(service, path, body)
    assert "error" not in answer.text
    assert answer.text.endswith(('{"finish_reason":"stop"}\n\n', "data: [DONE]\n\n"))


async def test_content_in_parts_passes_through(upstream: FakeUpstream) -> None:
    """On /v1 a chunk goes out with all the parts that came."""
    delta = {"content": [THOUGHT, {"type": "text", "text": "Hi"}]}
    upstream.script = broken(delta)
    async with serve(**at_upstream(upstream)) as service:
        answer = await ask(service, "/v1/chat/completions", STREAMED)
    assert sse({"choices": [{"index": 0, "delta": delta}]}).decode() in answer.text


@pytest.mark.parametrize(
    ("path", "body", "script", "least", "most"),
    [
        ("/chat", QUESTION, TEXT, 4, 4),
        ("/v1/chat/completions", STREAMED, TEXT, 4, 4),
        ("/v1/chat/completions", STREAMED, TOOL_CALL, 100, 120),
        ("/chat", QUESTION, broken({"content": [THOUGHT]}), 100, 120),
    ],
    ids=["text", "text on v1", "tool call", "reasoning"],
)
async def test_broken_answer_is_charged_what_came(
    upstream: FakeUpstream, path: str, body: dict[str, Any], script: Script, least: int, most: int
) -> None:
    """An answer that breaks off costs the prompt and what was received: text and all else."""
    upstream.script = script
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        await ask(service, path, body)
        charged = 5000 - (await left(service))[TOKENS]
    assert PROMPT + least <= charged <= PROMPT + most


class BrokenMetrics(Metrics):
    """Metrics that cannot count what an answer cost."""

    def count_usage(self, usage: Usage) -> None:
        """Fail."""
        raise OverflowError(usage)


async def test_settlement_does_not_wait_for_the_metric(upstream: FakeUpstream) -> None:
    """Where the metric fails, the budget has got back what was not used all the same."""
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        service.use(metrics=BrokenMetrics(service.services.limiter))
        with contextlib.suppress(httpx.HTTPError):
            await ask(service, "/chat", QUESTION)
        await service.idle()
        assert await left(service) == {TOKENS: 5000 - 7 - 5}
