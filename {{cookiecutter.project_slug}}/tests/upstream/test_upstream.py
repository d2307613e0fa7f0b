"""The fake upstream is what the tests stand on: it must be a real provider to real clients."""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.upstream import Action, FakeUpstream, Script, ToolCall

QUESTION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Run a fake provider; set its `script`."""
    async with FakeUpstream() as running:
        yield running


@pytest.fixture
async def sdk(upstream: FakeUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    """Open OpenAI's own client, which tries nothing twice."""
    async with openai.AsyncOpenAI(
        base_url=upstream.base_url, api_key="sk-of-a-test", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def client(upstream: FakeUpstream) -> AsyncIterator[httpx.AsyncClient]:
    """Open a plain client."""
    async with httpx.AsyncClient(base_url=upstream.base_url) as opened:
        yield opened


def answered(client: httpx.AsyncClient, **fields: Any) -> asyncio.Task[httpx.Response]:
    """Ask in the background."""
    call = client.post("/chat/completions", json=QUESTION | fields)
    return asyncio.ensure_future(call)


async def test_openais_client_streams_from_it(
    upstream: FakeUpstream, sdk: openai.AsyncOpenAI
) -> None:
    """Text, finish reason and usage come in chunks that the official client accepts."""
    upstream.script = Script(tool_calls=[ToolCall()], pings=True, gzip=True, chunk_size=9)
    chunks = [
        chunk
        async for chunk in await sdk.chat.completions.create(
            **QUESTION, stream=True, stream_options={"include_usage": True}
        )
    ]
    choices = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(choice.delta.content or "" for choice in choices) == upstream.script.text
    assert choices[-1].finish_reason == "tool_calls"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7


async def test_openais_client_gets_plain_answers(sdk: openai.AsyncOpenAI) -> None:
    """Completion, embeddings and models are what the official client expects."""
    completion = await sdk.chat.completions.create(**QUESTION)
    assert completion.choices[0].message.content == Script().text
    embeddings = await sdk.embeddings.create(model="e", input=["a", "b"], encoding_format="float")
    assert len(embeddings.data) == 2
    assert [model.id async for model in sdk.models.list()] == ["gpt-fake", "gpt-fake-mini"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_openais_client_knows_its_errors(
    upstream: FakeUpstream, sdk: openai.AsyncOpenAI, status: int, kind: type[openai.APIStatusError]
) -> None:
    """A status comes with OpenAI's body and the script's headers."""
    upstream.script = Script(status=status, headers={"retry-after": "7"})
    with pytest.raises(kind) as raised:
        await sdk.chat.completions.create(**QUESTION)
    assert raised.value.response.headers["retry-after"] == "7"
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"]


@pytest.mark.parametrize("field", ["model", "messages"])
async def test_a_request_without_its_fields_is_refused(
    client: httpx.AsyncClient, field: str
) -> None:
    """As at OpenAI's, a chat without a model or without messages is a 400 that says so."""
    response = await client.post("/chat/completions", json=QUESTION | {field: None})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


async def test_counts_what_is_live_and_its_peak(
    upstream: FakeUpstream, client: httpx.AsyncClient
) -> None:
    """Requests are live from their arrival to their end; the peak stays."""
    upstream.script = Script(before_event={-1: Action.HOLD})
    calls = [answered(client, stream=True) for _ in range(3)]
    await upstream.wait_held(3)
    upstream.release()
    assert {response.status_code for response in await asyncio.gather(*calls)} == {200}
    counts = upstream.counts
    assert (counts.received, counts.live, counts.peak, counts.held) == (3, 0, 3, 0)
    assert (counts.completed, counts.aborted, counts.cut) == (3, 0, 0)


@pytest.mark.parametrize(
    "script",
    [
        Script(headers_delay=1000),
        Script(first_token_delay=1000),
        Script(token_interval=1000),
        Script(before_headers=Action.HOLD),
        Script(before_event={3: Action.HOLD}),
        Script(tokens=["x" * 20_000_000]),
    ],
    ids=["headers", "first token", "between tokens", "held", "held in mid-stream", "back-pressure"],
)
async def test_sees_at_once_that_a_client_has_gone(upstream: FakeUpstream, script: Script) -> None:
    """Whatever it is waiting for, the request of a client that hangs up is no longer live."""
    upstream.script = script
    _, writer = await asyncio.open_connection(*upstream.origin.removeprefix("http://").split(":"))
    body = json.dumps(QUESTION | {"stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await upstream.wait_live(1)
    writer.close()
    await writer.wait_closed()
    await upstream.wait_aborted(1)
    assert upstream.counts.live == 0


async def test_each_request_may_have_its_script(
    upstream: FakeUpstream, client: httpx.AsyncClient
) -> None:
    """The queue is used up first; then the script, or what it makes of the request, answers."""
    upstream.queue.extend([Script(status=429), Script(status=503)])
    upstream.script = lambda request: Script(tokens=[request.json["user"]])
    responses = [await answered(client, user="me") for _ in range(3)]
    assert [response.status_code for response in responses] == [429, 503, 200]
    assert responses[-1].json()["choices"][0]["message"]["content"] == "me"
    assert [request.json["user"] for request in upstream.requests] == ["me"] * 3


async def test_a_script_that_fails_fails_the_test() -> None:
    """A defect in a script is raised where the upstream was opened, and the client is cut off."""

    def defect(request: object) -> Script:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the test is of the two contexts' end
        async with FakeUpstream(defect) as upstream, httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"{upstream.base_url}/models")


async def test_a_wait_in_vain_fails_with_the_counts(upstream: FakeUpstream) -> None:
    """A count that is never reached fails the test with the counts, and does not hang it."""
    with pytest.raises(AssertionError, match="received=0"):
        await upstream.wait_until(lambda counts: counts.received == 1, patience=0.01)


async def test_runs_as_a_process() -> None:
    """Started by hand, it prints where it listens, answers, and shows its counts."""
    arguments = ["-m", "tests.upstream", "--port", "0", "--first-token-delay", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, "--tokens", "3", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        [base_url, tally_url] = re.findall(r"http://[\w.:/]+", line)
        async with httpx.AsyncClient(base_url=base_url) as client:
            response = await answered(client)
            assert response.json()["usage"]["completion_tokens"] == 3
            assert (await client.get(tally_url)).json()["completed"] == 1
    finally:
        process.terminate()
        await process.communicate()


async def test_it_may_be_copied_anywhere(tmp_path: Path) -> None:
    """The folder serves in other projects, under another name, with nothing of this one."""
    source = Path(__file__).parent
    shutil.copytree(source, tmp_path / "fakes", ignore=shutil.ignore_patterns("test_*", "__py*"))
    program = """if True:
        import asyncio
        from fakes import FakeUpstream

        async def main():
            async with FakeUpstream() as upstream:
                print(upstream.base_url)

        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=tmp_path, env={}, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert (process.returncode, output[:17]) == (0, b"http://127.0.0.1:")
