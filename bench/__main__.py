"""Measure the CPU that the service takes, as a multiple of a raw byte relay's.

    make bench        (or: uv run --group bench python -m bench)

A fake provider paces 100 streams of 200 tokens, 20 ms apart. The relay and the service pass
them on in turns, round after round, so that a noisy machine disturbs all alike. What counts is the
CPU time of the process in between, for each streamed token and for each plain request. The
medians of the rounds go into `docs/bench.md` and its plot.
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.load import ask_all
from bench.processes import TEMPLATE, Running, rendered_service, running
from bench.report import Row, write_report

QUESTION: dict[str, object] = {"messages": [{"role": "user", "content": "How are you?"}]}
V1_STREAM: dict[str, object] = {**QUESTION, "model": "bench", "stream": True}
V1_PLAIN: dict[str, object] = {**QUESTION, "model": "bench"}
V1 = "/v1/chat/completions"
CEILING = 1000


@dataclass(frozen=True)
class Load:
    """What each target is given: so many streams at once of so many tokens, and plain requests."""

    streams: int
    tokens: int
    interval: float
    plain: int
    rounds: int


@dataclass(frozen=True, eq=False)
class Target:
    """One way through one process, measured in streamed tokens or plain requests."""

    name: str
    unit: str
    running: Running
    path: str
    body: dict[str, object]
    requests: int
    units: int

    async def microseconds_per_unit(self) -> float:
        """Put the load through once and return the CPU time of the process for each unit."""
        before = self.running.cpu_seconds()
        for first in range(0, self.requests, 100):
            await ask_all(self.running.port, self.path, self.body, min(100, self.requests - first))
        return (self.running.cpu_seconds() - before) * 1e6 / self.units


@contextlib.contextmanager
def targets(load: Load) -> Iterator[list[Target]]:
    """Start the processes and say what is measured of each; the relays are the yardsticks."""
    project = rendered_service()
    python = project / ".venv" / "bin" / "python"
    here = Path(sys.executable)
    paced = ("--tokens", str(load.tokens), "--token-interval", str(load.interval))
    instant = ("--tokens", "1", "--token-interval", "0")
    upstream = ("tests.upstream", "--port", "PORT", "--first-token-delay", "0.3")
    with contextlib.ExitStack() as stack:

        def start(python: Path, *arguments: str, cwd: Path, **environment: str) -> Running:
            return stack.enter_context(running(python, *arguments, cwd=cwd, **environment))

        def service(provider: Running) -> Running:
            return start(
                python, "app", cwd=project, LLM_PROVIDER="openai", OPENAI_API_KEY="none",
                OPENAI_BASE_URL=f"http://127.0.0.1:{provider.port}/v1",
                LLM_MAX_CONCURRENCY=str(CEILING), LOG_LEVEL="WARNING",
            )  # fmt: skip

        def relay(provider: Running) -> Running:
            return start(here, "bench.relay", "PORT", str(provider.port), cwd=TEMPLATE)

        streaming = start(python, *upstream, *paced, cwd=project)
        plain = start(python, *upstream[:-1], "0", *instant, cwd=project)
        tokens = load.streams * load.tokens
        through = service(streaming)
        yield [
            Target("relay", "token", relay(streaming), V1, V1_STREAM, load.streams, tokens),
            Target("/v1", "token", through, V1, V1_STREAM, load.streams, tokens),
            Target("/chat", "token", through, "/chat", QUESTION, load.streams, tokens),
            Target("relay", "request", relay(plain), V1, V1_PLAIN, load.plain, load.plain),
            Target("/v1", "request", service(plain), V1, V1_PLAIN, load.plain, load.plain),
        ]


async def measure(load: Load) -> list[Row]:
    """Run all rounds and return the median of each target."""
    with targets(load) as measured:
        costs: dict[Target, list[float]] = {target: [] for target in measured}
        for target in measured:
            await target.microseconds_per_unit()  # warm up
        for number in range(load.rounds):
            for target in measured:
                costs[target].append(await target.microseconds_per_unit())
            sys.stderr.write(f"round {number + 1} of {load.rounds}\n")
        return [Row(t.name, t.unit, median(cost)) for t, cost in costs.items()]


def main() -> None:
    """Measure, print the table, write the report."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between tokens")
    parser.add_argument("--plain", type=int, default=1000, help="plain requests a round")
    parser.add_argument("--rounds", type=int, default=3)
    load = Load(**vars(parser.parse_args()))
    write_report(asyncio.run(measure(load)), TEMPLATE / "docs", sys.stdout)


if __name__ == "__main__":
    main()
