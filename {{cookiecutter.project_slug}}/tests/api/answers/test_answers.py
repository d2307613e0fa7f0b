"""Each answer of the tables through the whole service, and what differs from route to route.

A stream over `/v1`, read by OpenAI's SDK, and over `/chat`; a plain answer over `/v1`.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import openai
import pytest

from app.llm.router import Retry
from tests.api.answers import BROKEN, LIMITED, OVERLOADED, Case, Outcome, dumped, fails, says
from tests.api.answers.anthropic import (
    ANTHROPIC,
    ANTHROPIC_PLAIN,
    REDACTED,
    SIGNED,
    START,
    THOUGHT,
    TOOL,
    block,
    end,
)
from tests.api.answers.openai import END, HI, OPENAI, OPENAI_PLAIN, delta, plain
from tests.service import COMPLETION, QUESTION, SERVICE_KEY, RunningService, events_of, serve
from tests.upstream import Action, FakeUpstream, Script


@asynccontextmanager
async def serving(upstream: FakeUpstream, wire: str, **more: Any) -> AsyncIterator[RunningService]:
    """Run the service with this upstream as its provider, without retries."""
    urls = {"openai_base_url": upstream.base_url, "anthropic_base_url": upstream.origin}
    urls |= {"openai_api_key": SERVICE_KEY}
    async with serve(llm_provider=wire, llm_model="m", **urls, **more) as service:
        service.services.provider._retry = Retry(attempts=1)  # type: ignore[attr-defined]
        yield service


Route = Callable[[RunningService, Outcome], Awaitable[str]]


async def streamed(service: RunningService, got: Outcome) -> str:
    """Ask `/v1` for a stream; return what came."""
    raw = ""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    async for chunk in await service.openai.chat.completions.create(**COMPLETION, **options):
        raw += chunk.to_json(indent=None, warnings=False)
        for choice in chunk.choices:
            if choice.index == 0:
                note(got, choice.delta, choice.finish_reason)
    return raw


async def unstreamed(service: RunningService, got: Outcome) -> str:
    """Ask `/v1` for a whole completion; return what came."""
    answer = await service.openai.chat.completions.create(**COMPLETION)
    note(got, answer.choices[0].message, answer.choices[0].finish_reason)
    return str(answer.to_json(indent=None, warnings=False))


def note(got: Outcome, added: Any, finish_reason: str | None) -> None:
    """Add up what the SDK reads."""
    got.finish = finish_reason or got.finish
    if added is None:
        return
    content = added.content or added.refusal or ""
    got.text += content if isinstance(content, str) else content[-1]["text"]
    got.reasoning += getattr(added, "reasoning_content", None) or ""
    calls = dict(enumerate(got.calls))
    for at, called in enumerate(added.tool_calls or ()):
        index = getattr(called, "index", at)
        calls[index] = calls.get(index, "") + (called.function.arguments or "")
    got.calls = tuple(calls.values())


async def chat(service: RunningService, got: Outcome) -> str:
    """Ask `/chat`, which has no calls and gives out no reasoning."""
    async with service.client.stream("POST", "/chat", json=QUESTION) as response:
        if response.is_error:
            error = json.loads(await response.aread())["error"]
            got.error, got.status = error["type"], response.status_code
            return ""
        async for one in events_of(response):
            got.text += one.data.get("text", "")
            got.finish = one.data.get("finish_reason", got.finish)
            got.error = one.data.get("type")
    return ""


@pytest.mark.parametrize(
    ("wire", "route", "name", "case"),
    [
        pytest.param(wire, route, name, case, id=f"{wire} {route.__name__}: {name}")
        for wire, table, routes in (
            ("openai", OPENAI, (streamed, chat)),
            ("openai", OPENAI_PLAIN, (unstreamed,)),
            ("anthropic", ANTHROPIC, (streamed, chat)),
            ("anthropic", ANTHROPIC_PLAIN, (unstreamed,)),
        )
        for name, case in table.items()
        for route in routes
    ],
)
async def test_answers(
    upstream: FakeUpstream, wire: str, route: Route, name: str, case: Case
) -> None:
    """No answer that the SDKs would read is refused, and no failure is passed off as one."""
    sent, wanted, *given_out = case
    is_json = sent.lstrip().startswith((b"{", b"[")) is not name.endswith(
        (" as events", " as JSON")
    )
    headers = {"content-type": "application/json" if is_json else "text/event-stream"}
    upstream.script = Script(body=sent, headers=headers, chunk_size=5 if route is chat else None)
    got, raw = Outcome(), ""
    async with serving(upstream, wire) as service:
        try:
            raw = await route(service, got)
        except openai.APIError as error:
            got.error, raw = error.type, str(error)
            got.status = getattr(error, "status_code", None)
        await service.idle()
    if route is chat:
        finish = None if wanted.error else wanted.finish or "stop"
        wanted, given_out = replace(wanted, finish=finish, calls=(), reasoning=""), []
    assert got == wanted
    assert all(part in raw.replace('": ', '":').replace(", ", ",") for part in sum(given_out, ()))
    assert upstream.counts.received == 1


@pytest.mark.parametrize("status", [201, 202])
async def test_another_good_status(upstream: FakeUpstream, status: int) -> None:
    """An answer under any 2xx is an answer: some gateways create one."""
    upstream.script = Script(status=status, body=plain({"content": "Hi"}))
    async with serving(upstream, "openai") as service:
        for route in (streamed, unstreamed):
            got = Outcome()
            await route(service, got)
            assert got == says("Hi")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ({"error": {"code": 429}}, LIMITED),
        ({"data": [], "message": "m", "code": 503}, OVERLOADED),
        ({}, BROKEN),
    ],
)
async def test_no_vectors(upstream: FakeUpstream, sent: Any, error: str) -> None:
    """An answer without embeddings is an error, whatever its status."""
    upstream.script = Script(body=dumped(sent))
    async with serving(upstream, "openai") as service:
        with pytest.raises(openai.APIError) as caught:
            await service.openai.embeddings.create(model="m", input="x")
    assert caught.value.type == error


async def test_thinking_survives_a_tool_call(upstream: FakeUpstream) -> None:
    """Signed blocks come back first in the turn, as Anthropic wrote them."""
    sent = START + THOUGHT + block(1, TOOL) + end("tool_use")
    upstream.script = Script(body=sent, headers={"content-type": "text/event-stream"})
    async with serving(upstream, "anthropic") as service:
        create = service.openai.chat.completions.create
        async with service.openai.chat.completions.stream(**COMPLETION) as stream:
            answer: Any = (await stream.get_final_completion()).choices[0].message.to_dict()
        upstream.script = Script()
        for turn in (answer, {**answer, "content": [REDACTED]}):
            result: Any = {"role": "tool", "tool_call_id": "t", "content": "r"}
            messages: Any = [*QUESTION["messages"], turn, result]
            await create(model="m", messages=messages)
    first, second = (request.json["messages"][1] for request in list(upstream.requests)[1:])
    assert first["content"] == [SIGNED, TOOL]
    assert second["content"] == [SIGNED, REDACTED, TOOL]


NO_MODELS: list[Any] = [{"data": None}, {"object": "list"}, None, []]
MODEL = {"id": "m1", "object": "model", "created": 1, "type": "chat"}


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("status", "listed", "names"),
    [
        (200, [MODEL], ["m1"]),
        (200, {"data": [MODEL, None]}, ["m1"]),
        *((200, empty, ["m"]) for empty in NO_MODELS),
        (404, {"detail": "Not Found"}, ["m"]),
        (405, {"error": "Method not allowed"}, ["m"]),
    ],
)
async def test_models(
    upstream: FakeUpstream, wire: str, status: int, listed: Any, names: list[str]
) -> None:
    """A list in any shape is a list; a provider without one offers the configured model."""
    upstream.script = Script(status=status, body=dumped(listed))
    async with serving(upstream, wire) as service:
        assert [model.id async for model in service.openai.models.list()] == names


async def test_models_nested_too_deeply(upstream: FakeUpstream) -> None:
    """A list that no parser accepts, or that is costly to read, is the provider's failure."""
    async with serving(upstream, "openai") as service:
        for levels in (5_000, 100_000):
            upstream.script = Script(body=b"[" * levels + b"]" * levels)
            with pytest.raises(openai.APIStatusError) as caught:
                await service.openai.models.list()
            assert (caught.value.status_code, caught.value.type) == (502, BROKEN)


MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize(
    ("event", "header", "detail"),
    [
        (16 * MEBIBYTE, 32 * 1024, None),
        (24 * MEBIBYTE, 0, "over max_event_bytes, 20971520"),
        (0, 128 * 1024, "more than 65536 bytes of headers"),
    ],
)
async def test_sizes(
    upstream: FakeUpstream,
    capsys: pytest.CaptureFixture[str],
    event: int,
    header: int,
    detail: str | None,
) -> None:
    """An event of 16 MiB and a header of 32 KiB pass; beyond that the log names the bound."""
    picture = delta(images=["A" * event])
    upstream.script = Script(body=picture + HI + END, headers={"x-trace": "a" * header})
    got = Outcome()
    async with serving(upstream, "openai") as service:
        await chat(service, got)
    assert got == (fails() if detail else says("Hi"))
    assert (detail or "") in capsys.readouterr().err


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_starts_the_answer(upstream: FakeUpstream, field: str) -> None:
    """`/chat` starts with a ping when the provider reasons, and says nothing of it."""
    opening = delta("", role="assistant") + delta(**{field: "hm"})
    upstream.script = Script(body=opening + HI + END, at_byte={len(opening): Action.HOLD})
    async with (
        serving(upstream, "openai") as service,
        service.client.stream("POST", "/chat", json=QUESTION) as response,
    ):
        received = response.aiter_bytes()
        assert await anext(received) == b": ping\n\n"
        upstream.release()
        rest = b"".join([part async for part in received])
    assert rest.startswith(b'event: token\ndata: {"text":"Hi"}')
    assert b"hm" not in rest


@pytest.mark.parametrize("value", [-1, 0, "inf", 2**40])
async def test_limits_pass(upstream: FakeUpstream, value: Any) -> None:
    """A maximum that the provider may understand is its own to judge, also under a budget."""
    async with serving(upstream, "openai", rate_limit_tokens=10**13) as service:
        body = {**COMPLETION, "max_tokens": value}
        assert (await service.client.post("/v1/chat/completions", json=body)).is_success
    assert upstream.requests[0].json["max_tokens"] == value
