"""Run the fake upstream as a process, to point the service or a load test at.

    python -m tests.upstream --port 9000 --first-token-delay 0.3 --tokens 200

Then OPENAI_BASE_URL=http://127.0.0.1:9000/v1, with any key.
"""

import argparse
import asyncio
import sys
from contextlib import suppress

import uvloop

from .script import Script
from .server import FakeUpstream


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    script = Script(
        first_token_delay=arguments.first_token_delay,
        token_interval=arguments.token_interval,
        tokens=arguments.tokens,
        status=arguments.status,
    )
    async with FakeUpstream(script, port=arguments.port) as upstream:
        sys.stdout.write(f"{upstream.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


parser = argparse.ArgumentParser(prog="python -m tests.upstream", description="A fake provider")
parser.add_argument("--port", type=int, default=9000, help="0 takes a free one")
parser.add_argument("--first-token-delay", type=float, default=0.3, metavar="SECONDS")
parser.add_argument("--token-interval", type=float, default=0.02, metavar="SECONDS")
parser.add_argument("--tokens", type=int, default=200, metavar="COUNT")
parser.add_argument("--status", type=int, default=200, help="answer everything with this")
with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(serve(parser.parse_args()))
