"""Run the fake upstream as a process, to point the service or a load test at.

    python -m tests.upstream --port 9000 --first-token-delay 0.3 --tokens 200

Then OPENAI_BASE_URL=http://127.0.0.1:9000/v1, with any key; GET /tally shows its counts.
"""

import argparse
import asyncio
import sys
from contextlib import suppress

import uvloop

from .script import Script
from .server import TALLY_PATH, FakeUpstream


def main() -> None:
    """Serve until Ctrl-C."""
    arguments = _parser().parse_args()
    script = Script(
        first_token_delay=arguments.first_token_delay,
        token_interval=arguments.token_interval,
        tokens=arguments.tokens,
        status=arguments.status,
    )
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(script, arguments.port))


async def _serve(script: Script, port: int) -> None:
    async with FakeUpstream(script, port=port) as upstream:
        sys.stdout.write(f"{upstream.base_url} (counts: {upstream.origin}{TALLY_PATH})\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description="A fake provider")
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one")
    parser.add_argument("--first-token-delay", type=float, default=0.3, metavar="SECONDS")
    parser.add_argument("--token-interval", type=float, default=0.02, metavar="SECONDS")
    parser.add_argument("--tokens", type=int, default=200, metavar="COUNT")
    parser.add_argument("--status", type=int, default=200, help="answer everything with this")
    return parser


if __name__ == "__main__":
    main()
