"""A fake LLM provider on a real socket, for tests, demonstrations and load tests.

    async with FakeUpstream(Script(tokens=200, token_interval=0.02)) as upstream:
        provider = OpenAIProvider(client, base_url=upstream.base_url)
        ...
        await upstream.wait_live(1)

`python -m tests.upstream --help` runs it as a process.

Needs: httptools, and uvloop to be run as a process. The folder may lie anywhere.
"""

from .script import Action, Script, Step, ToolCall
from .server import FakeUpstream
from .wire import sse

__all__ = ["Action", "FakeUpstream", "Script", "Step", "ToolCall", "sse"]
