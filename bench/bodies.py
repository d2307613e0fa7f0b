"""Measure for how long one request body can hold the event loop.

    make bodies-report        (or: uv run --group bench python -m bench.bodies)

Bodies of every kind that is expensive to process, each as large as the service accepts it, are
sent to an in-process service with the embedded provider. What counts is the CPU time of the
longest step of the event loop; the target is 50 ms.
"""

import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

TARGET = 50.0
MIB = 2**20
REPEATS = 3
JSON = {"content-type": "application/json"}


def chat(messages: str) -> bytes:
    """Return the body of a chat with these messages."""
    return f'{{"max_tokens":1,"messages":[{messages}]}}'.encode()


def user(content: str) -> str:
    """Return one message with this content, in JSON."""
    return f'{{"role":"user","content":{content}}}'


def many(item: str, *, count: int | None = None, size: int = 4 * MIB - 200) -> str:
    """Repeat an item, separated by commas: so often, or up to so many bytes."""
    return ",".join([item] * (count or size // (len(item) + 1)))


def part(text: str) -> str:
    """Return a text part of a message, in JSON."""
    return f'{{"type":"text","text":"{text}"}}'


def bodies() -> Iterator[tuple[str, str, bytes]]:
    """List what may be expensive: a name, the path, the body."""
    completions, embeddings = "/v1/chat/completions", "/v1/embeddings"
    most = 4 * MIB - 1000
    texts = {
        "one text": '"' + "word " * (most // 5) + '"',
        "blanks": '"' + " " * most + '"',
        "Chinese": '"' + "\u4e2d" * (most // 3) + '"',
        "escaped quotes": '"' + '\\"' * (most // 2) + '"',
        "code": '"' + 'if x[1, 2] == {\\"a\\": [3]}:\\n' * (most // 34) + '"',
    }
    for path in ("/chat", completions):
        for name, text in texts.items():
            yield name, path, chat(user(text))
        yield "most messages", path, chat(many(user('"x"'), count=4000))
        yield "too many messages", path, chat(many(user('""')))
        yield "empty arrays", path, chat(many("[]"))
        yield "nested arrays", path, chat("[" * MIB + "]" * MIB)
    image = '{"type":"image_url","image_url":{"url":"data:image/png;base64,' + "iVBO" * 4 * MIB
    yield "an image of 16 MiB", completions, chat(user(f'[{image}"}}}}]'))
    yield "most parts", completions, chat(user(f"[{many(part(''), count=10_000)}]"))
    yield "too many parts", completions, chat(user(f"[{many(part(''))}]"))
    tools = many('{"a":"b"}', count=13_000)
    yield "most objects", completions, chat(user('"x"'))[:-1] + f',"tools":[{tools}]}}'.encode()
    strings = many('"b"', count=79_000)
    yield "most strings", completions, chat(user('"x"'))[:-1] + f',"stop":[{strings}]}}'.encode()
    for name, item in {"most numbers": "1", "texts": '"a b"', "token lists": "[1,2]"}.items():
        counts = {"most numbers": 390_000, "texts": 79_000, "token lists": 18_000}
        inputs = many(item, count=counts[name])
        yield name, embeddings, f'{{"model":"m","input":[{inputs}]}}'.encode()
    texts_of_two_words = many('"a b"', count=1000)
    yield "1,000 inputs", embeddings, f'{{"input":[{texts_of_two_words}]}}'.encode()
    yield "one input", embeddings, f'{{"input":{texts["one text"]}}}'.encode()


@contextmanager
def longest_step(taken: list[float]) -> Iterator[None]:
    """Append the CPU milliseconds of the event loop's longest step in the block."""
    original = asyncio.Handle._run
    longest = 0.0

    def timed(handle: asyncio.Handle) -> None:
        nonlocal longest
        started = time.thread_time()
        original(handle)
        longest = max(longest, time.thread_time() - started)

    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        asyncio.Handle._run = original  # type: ignore[method-assign]
        taken.append(longest * 1000)


async def measure(app: Any) -> bool:  # noqa: ANN401 -- of a project that is only rendered here
    """Print a table of the bodies; return whether all are within the target."""
    worst = 0.0
    print(f"{'body':20} {'path':22} {'MiB':>5} {'status':>6} {'longest step':>12}")
    async with app.router.lifespan_context(app) as state, client_of(app, state) as client:
        for name, path, body in bodies():
            steps: list[float] = []
            for _ in range(REPEATS):
                with longest_step(steps):
                    request = client.post(path, content=body, headers=JSON)
                    response = await asyncio.create_task(request)
            step, size = min(steps), len(body) / MIB
            worst = max(worst, step)
            row = f"{name:20} {path:22} {size:5.1f} {response.status_code:6} {step:9.1f} ms"
            print(row)
    print(f"\nlongest: {worst:.1f} ms of CPU, target {TARGET:g} ms")
    return worst <= TARGET


def client_of(app: Any, state: dict[str, object]) -> httpx.AsyncClient:  # noqa: ANN401
    """Build a client of the application, whose requests carry the lifespan's state."""

    async def with_state(scope: dict[str, Any], receive: object, send: object) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    transport = httpx.ASGITransport(with_state)
    return httpx.AsyncClient(transport=transport, base_url="http://bench", timeout=60)


def main() -> None:
    """Render the defaults and measure them in a process with their own environment."""
    if "inside" not in sys.argv:
        from bench.processes import rendered_service  # noqa: PLC0415 -- not installed there

        project = rendered_service()
        command = [project / ".venv/bin/python", "-P", __file__, "inside"]
        environment = {**os.environ, "PYTHONPATH": str(project)}
        sys.exit(subprocess.run(command, cwd=project, env=environment, check=False).returncode)
    settings = importlib.import_module("app.settings").Settings(
        log_level="ERROR", echo_first_token_delay=0, echo_token_interval=0, rate_limit_tokens=10**9
    )
    app = importlib.import_module("app.main").create_app(settings)
    sys.exit(not asyncio.run(measure(app)))


if __name__ == "__main__":
    main()
