"""Real clients ask the running service; its provider is a fake in this process.

Needs the environment of ../test_clients.py, which gives the service's URL (SERVICE) and the port on
which it expects its provider (PROVIDER). The model's name decides what the provider does.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest

ELSEWHERE: list[str] = []
"""The hosts, other than this one, that the clients looked up or connected to."""


def note(event: str, arguments: Any) -> None:
    """Note where a look-up or a connection goes."""
    if event in {"socket.getaddrinfo", "socket.connect"}:
        host = arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]
        if host != "127.0.0.1":
            ELSEWHERE.append(host)


sys.addaudithook(note)  # before the clients, which may ask for something when they are imported

import litellm
import openai
from aiohttp import web
from langchain_openai import ChatOpenAI
from provider import ANSWERS, ERRORS, USAGE, Provider
from pydantic_ai import direct, messages
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition

SERVICE, PROVIDER = os.environ["SERVICE"], int(os.environ["PROVIDER"])
WHERE: Any = {"base_url": f"{SERVICE}/v1", "api_key": "any", "max_retries": 0}
SDK = openai.AsyncOpenAI(**WHERE)
QUESTION = "What is the weather in Zürich?"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": CITY, "strict": True}}
    for name in ("weather", "time")
]
PATIENCE = 20
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("provider")]


class Given(NamedTuple):
    """An answer as a client gives it to its user."""

    text: str
    calls: list[tuple[str, Any]]
    usage: tuple[int, int]
    reasoning: str | None = None


def given(completion: Any) -> Given:
    """Read a completion of the SDK of OpenAI, or of LiteLLM."""
    answer, usage = completion.choices[0].message, completion.usage
    functions = [call.function for call in answer.tool_calls or ()]
    calls = [(function.name, json.loads(function.arguments)) for function in functions]
    tokens = usage.prompt_tokens, usage.completion_tokens
    return Given(answer.content or "", calls, tokens, getattr(answer, "reasoning_content", None))


async def by_openai(model: str, stream: bool, started: asyncio.Event) -> Given:
    """Ask with OpenAI's SDK."""
    question = {"model": model, "messages": MESSAGES, "tools": TOOLS}
    if not stream:
        return given(await SDK.chat.completions.create(**question))
    options = {"include_usage": True}
    async with SDK.chat.completions.stream(**question, stream_options=options) as events:
        async for event in events:
            if event.type == "content.delta":
                started.set()
        return given(await events.get_final_completion())


async def by_langchain(model: str, stream: bool, started: asyncio.Event) -> Given:
    """Ask with LangChain."""
    chat = ChatOpenAI(model=model, stream_usage=True, **WHERE).bind_tools(TOOLS)
    if stream:
        answer: Any = None
        async for chunk in chat.astream(QUESTION):
            answer = chunk if answer is None else answer + chunk
            if chunk.content:
                started.set()
    else:
        answer = await chat.ainvoke(QUESTION)
    usage = answer.usage_metadata
    calls = [(call["name"], call["args"]) for call in answer.tool_calls]
    return Given(answer.content, calls, (usage["input_tokens"], usage["output_tokens"]))


async def by_litellm(model: str, stream: bool, started: asyncio.Event) -> Given:
    """Ask with LiteLLM."""
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer: Any = await litellm.acompletion(
        model=f"openai/{model}", messages=MESSAGES, tools=TOOLS, **WHERE, **options
    )
    if not stream:
        return given(answer)
    chunks = []
    async for chunk in answer:
        chunks.append(chunk)
        if chunk.choices and chunk.choices[0].delta.content:
            started.set()
    return given(litellm.stream_chunk_builder(chunks))


async def by_pydantic_ai(model: str, stream: bool, started: asyncio.Event) -> Given:
    """Ask with pydantic-ai."""
    names = [tool["function"]["name"] for tool in TOOLS]
    tools = [ToolDefinition(name=name, parameters_json_schema=CITY) for name in names]
    question: dict[str, Any] = {
        "model": OpenAIChatModel(model, provider=OpenAIProvider(openai_client=SDK)),
        "messages": [messages.ModelRequest.user_text_prompt(QUESTION)],
        "model_request_parameters": ModelRequestParameters(function_tools=tools),
    }
    if stream:
        async with direct.model_request_stream(**question) as events:
            async for event in events:
                if isinstance(getattr(event, "part", None), messages.TextPart):
                    started.set()
            answer = events.get()
    else:
        answer = await direct.model_request(**question)
    calls = [(call.tool_name, call.args_as_dict()) for call in answer.tool_calls]
    usage = answer.usage.input_tokens, answer.usage.output_tokens
    return Given(answer.text or "", calls, usage, answer.thinking)


CLIENTS = {
    "openai": by_openai,
    "langchain": by_langchain,
    "litellm": by_litellm,
    "pydantic-ai": by_pydantic_ai,
}
OPENAI_RAISES: dict[str, type[Exception]] = {
    "limited": openai.RateLimitError,
    "missing": openai.NotFoundError,
    "long": openai.BadRequestError,
    "cut": openai.APIError,
}
RAISES = {
    "openai": OPENAI_RAISES,
    "langchain": OPENAI_RAISES,
    "litellm": {**OPENAI_RAISES, "long": litellm.ContextWindowExceededError},
    "pydantic-ai": {**dict.fromkeys(ERRORS, ModelHTTPError), "cut": ModelAPIError},
}
by_each = pytest.mark.parametrize("client", CLIENTS)
in_both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "plain"])


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run the tests by asyncio, all in one event loop: LangChain keeps its connections."""
    return "asyncio"


@pytest.fixture(scope="session")
async def provider() -> AsyncIterator[Provider]:
    """Serve the provider; no client may ask another machine, for prices or to report."""
    provider, app = Provider(), web.Application()
    app.router.add_post("/v1/chat/completions", provider.complete)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PROVIDER).start()
    yield provider
    await runner.cleanup()
    assert ELSEWHERE == []


async def service(path: str, body: object = None) -> str:
    """Ask the service without a client."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{SERVICE}{path}", data, {"Content-Type": "application/json"})
    return await asyncio.to_thread(lambda: urlopen(request, timeout=PATIENCE).read().decode())


async def until(path: str, text: str) -> None:
    """Wait until the service answers with this text in it."""
    async with asyncio.timeout(PATIENCE):
        while text not in await service(path):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@by_each
@in_both_ways
@pytest.mark.parametrize("model", ["text", "reasoning", "call", "calls"])
async def test_answer(client: str, stream: bool, model: str) -> None:
    """Text, reasoning, calls and usage come whole; only LangChain shows no reasoning."""
    answer = ANSWERS[model]
    result = await CLIENTS[client](model, stream, asyncio.Event())
    assert result.text == "".join(answer.text)
    assert result.calls == [(name, json.loads("".join(pieces))) for name, pieces in answer.calls]
    assert result.usage == (USAGE["prompt_tokens"], USAGE["completion_tokens"])
    if client != "langchain":
        assert (result.reasoning or "") == "".join(answer.reasoning)


@by_each
@in_both_ways
@pytest.mark.parametrize("model", ERRORS)
async def test_refusal(client: str, stream: bool, model: str) -> None:
    """The provider's refusal is the client's own error, with its status and its code."""
    with pytest.raises(RAISES[client][model]) as caught:
        await CLIENTS[client](model, stream, asyncio.Event())
    error: Any = caught.value
    status, code, _ = ERRORS[model]
    assert error.status_code == status
    if client != "litellm":
        assert (error.body if client == "pydantic-ai" else vars(error))["code"] == code
    if hasattr(error, "response") and model == "limited":
        assert error.response.headers["retry-after"] == "7"


@by_each
async def test_cut(client: str) -> None:
    """Part of an answer is never taken for all of it."""
    with pytest.raises(RAISES[client]["cut"]):
        await CLIENTS[client]("cut", True, asyncio.Event())


@by_each
@in_both_ways
async def test_abort(client: str, stream: bool, provider: Provider) -> None:
    """A user who leaves closes the provider's connection, and the slot is free again."""
    provider.held.clear()
    provider.left.clear()
    started = asyncio.Event()
    asking = asyncio.create_task(CLIENTS[client]("endless", stream, started))
    async with asyncio.timeout(PATIENCE):
        await (started if stream else provider.held).wait()
        await until("/metrics", "llm_in_flight 1.0")
        asking.cancel()
        await provider.left.wait()
    await until("/metrics", "llm_in_flight 0.0")


@in_both_ways
async def test_sources(stream: bool) -> None:
    """With `retrieve` the SDK's answers have sources."""
    added = json.loads(await service("/documents", {"text": f"{QUESTION} Rain.", "title": "News"}))
    await until(f"/documents/{added['id']}", '"ready"')
    answer: Any = await SDK.chat.completions.create(
        model="text", messages=MESSAGES, stream=stream, extra_body={"retrieve": True}
    )
    chunks = [chunk async for chunk in answer] if stream else [answer]
    assert [source["title"] for source in chunks[0].sources] == ["News"]
