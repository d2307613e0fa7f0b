"""The fake upstream as a process, and what tests rely on that no other test would miss."""

import asyncio
import sys

import httpx
import openai
import pytest

from tests.upstream import FakeUpstream, Script
from tests.upstream.wire import Request


async def test_runs_as_a_process() -> None:
    """Started by hand, it prints where it listens, and OpenAI's client gets an answer."""
    arguments = ["-m", "tests.upstream", "--port", "0", "--first-token-delay", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, "--tokens", "3", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        base_url = (await process.stdout.readline()).decode().strip()
        async with openai.AsyncOpenAI(base_url=base_url, api_key="x") as sdk:
            answer = await sdk.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "Hi?"}]
            )
        assert answer.choices[0].message.content == " token0 token1 token2"
    finally:
        process.terminate()
        await process.communicate()


async def test_a_script_that_fails_fails_the_test() -> None:
    """A defect in a script is raised where the upstream was opened, and the client is cut off."""

    def defect(_: Request) -> Script:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the test is of the two contexts' end
        async with FakeUpstream(defect) as upstream, httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(f"{upstream.base_url}/models")
