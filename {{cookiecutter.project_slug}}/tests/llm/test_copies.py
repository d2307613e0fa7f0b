"""Each module works in a project of another name, with what it says it needs and nothing else."""

from pathlib import Path

import pytest

import app.llm
from tests.copying import needs, use_copied

PACKAGE = Path(app.llm.__file__).parent

SSE = """
from theirs.sse import SSEDecoder

print(*SSEDecoder().feed(b"data: one\\n\\ndata: tw")[0])
"""

ASK = """
import asyncio

async def answer(provider):
    async with provider.stream({"messages": [{"role": "user", "content": "Hello you"}]}) as chunks:
        return "".join([chunk.text async for batch in chunks for chunk in batch])
"""

ECHO = f"""
{ASK}
from theirs.echo import EchoProvider

print(asyncio.run(answer(EchoProvider(first_token_delay=0, token_interval=0))))
"""

SCRIPTED = f"""
{ASK}
from contextlib import asynccontextmanager
from theirs.base import Chunk, ProviderOverloadedError

class Provider:
    def __init__(self, name, *failures):
        self.name, self.failures = name, list(failures)

    @asynccontextmanager
    async def stream(self, request):
        if self.failures:
            raise self.failures.pop()
        yield self.chunks()

    async def chunks(self):
        yield [Chunk({{"choices": [{{"delta": {{"content": self.name}}}}]}})]
"""

DEADLINES = f"""
{SCRIPTED}
from theirs.deadlines import DeadlineProvider, Deadlines

print(asyncio.run(answer(DeadlineProvider(Provider("one"), Deadlines(9, 9, 9)))))
"""

FAILOVER = f"""
{SCRIPTED}
from theirs.router import Router, Retry

busy = Provider("one", ProviderOverloadedError("busy"))
both = Router(
    [busy, Provider("two")], models={{"one": "a", "two": "b"}}, retry=Retry(attempts=1)
)
print(asyncio.run(answer(both)))
"""

FEEDBACK = f"""
{SCRIPTED}
from theirs.feedback import FeedbackProvider

class Ceiling:
    def on_success(self, started_at):
        print("served")

    def on_overload(self, started_at, retry_after):
        print("overloaded", retry_after)

async def main():
    provider = Provider("one", ProviderOverloadedError("busy", retry_after=7))
    for _ in range(2):
        try:
            print(await answer(FeedbackProvider(provider, Ceiling())))
        except ProviderOverloadedError:
            pass

asyncio.run(main())
"""

ADAPTER = """
import httpx
from theirs.{module} import {adapter}

BODY = {body!r}

async def main():
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=BODY))
    async with httpx.AsyncClient(transport=transport) as client:
        print(await answer({adapter}(client, base_url="http://provider", api_key="key")))

asyncio.run(main())
"""
OPENAI = b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\ndata: [DONE]\n\n'
ANTHROPIC = b"".join(
    b"data: " + event + b"\n\n"
    for event in (
        b'{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":1}}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}',
        b'{"type":"content_block_stop","index":0}',
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}',
        b'{"type":"message_stop"}',
    )
)


@pytest.mark.parametrize(
    ("module", "program", "output"),
    [
        ("sse", SSE, "message b'one'"),
        ("echo", ECHO, "Hello you"),
        ("deadlines", DEADLINES, "one"),
        ("router", FAILOVER, "two"),
        ("feedback", FEEDBACK, "overloaded 7\nserved\none"),
    ],
)
def test_module_works_copied(tmp_path: Path, module: str, program: str, output: str) -> None:
    """It needs the standard library (no installed package is in reach) and the files it names."""
    assert use_copied(tmp_path, PACKAGE, module, program) == output


@pytest.mark.parametrize(
    ("module", "adapter", "body"),
    [("openai", "OpenAIProvider", OPENAI), ("anthropic", "AnthropicProvider", ANTHROPIC)],
    ids=["openai", "anthropic"],
)
def test_adapter_works_copied(tmp_path: Path, module: str, adapter: str, body: bytes) -> None:
    """An adapter needs httpx and pydantic-core besides the files it names."""
    program = ASK + ADAPTER.format(module=module, adapter=adapter, body=body)
    assert use_copied(tmp_path, PACKAGE, module, program, installed=True) == "Hello"


def test_no_file_too_many() -> None:
    """Whoever wants one module need not take the rest of the folder."""
    assert needs(PACKAGE, "sse") == {"sse"}
    assert needs(PACKAGE, "router") == {"router", "base"}
    assert needs(PACKAGE, "feedback") == {"feedback", "base"}
    assert needs(PACKAGE, "deadlines") == {"deadlines", "paced", "interruptible", "base"}
    assert not any("anthropic" in name for name in needs(PACKAGE, "openai"))
