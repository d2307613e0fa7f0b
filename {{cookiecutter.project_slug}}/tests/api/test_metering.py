"""What a call costs, and what its client is told, where the provider's words make no sense."""

import contextlib
from typing import Any

import httpx
import pytest

from app.llm.base import Usage
from app.telemetry.metrics import Metrics
from tests.service import COMPLETION, EMBEDDING, QUESTION, Event, at_upstream, serve
from tests.upstream import Action, FakeUpstream, Script, sse

from .test_rate_limits import PROMPT, STREAMED, TOKENS, ask, left

HELLO = {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "12345678" * 50}]}

odd_usage = pytest.mark.parametrize(
    "usage",
    [5, "x", {"prompt_tokens": "x"}, {"prompt_tokens": -5, "completion_tokens": -9},
     {"prompt_tokens": 1.5}, {"prompt_tokens": 10**400}],
    ids=lambda usage: str(usage)[:40],
)  # fmt: skip


def saying(*deltas: object) -> Script:
    """Say all this before the first token of the answer, and cut it off after that."""
    events = [sse({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return Script(before_event={1: b"".join(events), 2: Action.CUT})


@odd_usage
@pytest.mark.parametrize(
    ("path", "body"), [("/chat", QUESTION), ("/v1/chat/completions", STREAMED)]
)
async def test_odd_usage_ends_no_stream(
    upstream: FakeUpstream, path: str, body: dict[str, Any], usage: object
) -> None:
    """The answer is whole and costs its estimate, as one without any usage."""
    events = (HELLO, STOP, {"choices": [], "usage": usage}, b"[DONE]")
    upstream.script = Script(body=b"".join(map(sse, events)))
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        answer = await ask(service, path, body)
        assert await left(service) == {TOKENS: 5000 - PROMPT - 4096}
    assert "error" not in answer.text
    assert answer.text.endswith(('{"finish_reason":"stop"}\n\n', "data: [DONE]\n\n"))
    assert "event: usage" not in answer.text
    assert '"choices":[]' not in answer.text.replace(" ", ""), "nobody asked for usage"


@odd_usage
@pytest.mark.parametrize(
    ("path", "body", "cost"),
    [("/v1/chat/completions", COMPLETION, PROMPT + 4096), ("/v1/embeddings", EMBEDDING, 3)],
)
async def test_odd_usage_passes_through_whole_answers(
    upstream: FakeUpstream, path: str, body: dict[str, Any], cost: int, usage: object
) -> None:
    """An answer in one piece is passed on as it came, and costs its estimate."""
    said = {"id": "x", "choices": [], "usage": usage}
    upstream.script = Script(body=sse(said).removeprefix(b"data: "))
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        answer = await ask(service, path, body)
        assert await left(service) == {TOKENS: 5000 - cost}
    assert (answer.status_code, answer.json()) == (200, said)


async def test_content_that_is_no_text_is_no_token(upstream: FakeUpstream) -> None:
    """`/chat` tells the text of an answer and nothing else, always as a string."""
    upstream.script = saying({"content": [THOUGHT]}, {"content": 5}, {"refusal": {"a": 1}})
    async with serve(**at_upstream(upstream)) as service:
        *tokens, _ = await service.chat()
    assert tokens == [Event("token", {"text": Script().texts[0]})]


async def test_content_in_parts_passes_through(upstream: FakeUpstream) -> None:
    """On /v1 a chunk goes out with all the parts that came."""
    delta = {"content": [THOUGHT, {"type": "text", "text": "Hi"}]}
    upstream.script = saying(delta)
    async with serve(**at_upstream(upstream)) as service:
        answer = await ask(service, "/v1/chat/completions", STREAMED)
    assert sse({"choices": [{"index": 0, "delta": delta}]}).decode() in answer.text


async def test_broken_answer_in_parts_is_charged_what_came(upstream: FakeUpstream) -> None:
    """Thoughts are output too where an answer dies on the way."""
    upstream.script = saying({"content": [THOUGHT]})
    async with serve(**at_upstream(upstream, rate_limit_tokens=5000)) as service:
        await ask(service, "/chat", QUESTION)
        charged = 5000 - (await left(service))[TOKENS]
    assert PROMPT + 100 <= charged <= PROMPT + 120


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
