"""A fake LLM provider on a real socket, for tests, demonstrations and load tests.

    async with FakeUpstream(Script(tokens=200, token_interval=0.02)) as upstream:
        provider = OpenAIProvider(client, base_url=upstream.base_url)
        ...
        await upstream.wait_live(1)

`script.py` is what it can be told to do, `server.py` how it listens and counts,
`wire.py` how an answer becomes bytes on the socket; `openai.py` and its siblings are the
providers' formats. `python -m tests.upstream --help` runs it as a process.

Needs: httptools, and uvloop to be run as a process. The folder may lie anywhere, without its tests.
"""

from .script import Action, Script, Step, ToolCall
from .server import FakeUpstream
from .tally import Tally
from .wire import Answer, Request, WireFormat, sse

__all__ = [
    "Action",
    "Answer",
    "FakeUpstream",
    "Request",
    "Script",
    "Step",
    "Tally",
    "ToolCall",
    "WireFormat",
    "sse",
]
