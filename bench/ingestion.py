"""Measure how the service answers while it works on a thousand documents in the same process.

    make ingestion-report        (or: uv run --group bench python -m bench.ingestion)

A second process asks `/livez` every 10 ms, first of the idle service, then while 1,000 Markdown
files are handed in, split, embedded and stored on the embedded defaults. What counts is the 99th
percentile of the latency.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import quantiles

from bench.processes import rendered_service, running

PROBE_INTERVAL = 0.01
IDLE_SECONDS = 3.0
READY_TIMEOUT = 900.0
AT_ONCE = 8
WORDS = [
    "stream",
    "token",
    "limit",
    "window",
    "slot",
    "queue",
    "client",
    "answer",
    "passage",
    "drain",
]


@dataclass(frozen=True)
class Latency:
    """Of `/livez`, in milliseconds."""

    p50: float
    p99: float
    worst: float


def markdown(number: int, words: int) -> str:
    """Write a document of its own, with headings, paragraphs, a list and code."""
    choose = random.Random(number)  # noqa: S311
    parts = [f"# Document {number}"]
    for section in range(max(1, words // 100)):
        text = " ".join(choose.choice(WORDS) + choose.choice(["", "s", "."]) for _ in range(80))
        items = "\n".join(f"- {choose.choice(WORDS)} {number}.{item}" for item in range(5))
        parts += [f"## Section {section}", text, items, f"```\n{choose.choice(WORDS)}()\n```"]
    return "\n\n".join(parts)


def probe(port: int, stop: Connection) -> None:
    """Ask /livez again and again until told to stop, then send the latencies in seconds."""
    taken = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    while not stop.poll(PROBE_INTERVAL):
        start = time.perf_counter()
        connection.request("GET", "/livez")
        connection.getresponse().read()
        taken.append(time.perf_counter() - start)
    stop.send(taken)


@contextlib.contextmanager
def probing(port: int, latencies: list[float]) -> Iterator[None]:
    """Probe from another process for as long as the block runs."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=probe, args=(port, theirs))
    process.start()
    try:
        yield
        ours.send("stop")
        latencies.extend(ours.recv())
    finally:
        process.kill()


def summary(latencies: list[float]) -> Latency:
    """Reduce seconds to milliseconds at three places."""
    cuts = quantiles(latencies, n=100)
    return Latency(1000 * cuts[49], 1000 * cuts[98], 1000 * max(latencies))


def ask(port: int, method: str, path: str, body: object = None) -> dict[str, object]:
    """Make one request and return its JSON."""
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    ) as connection:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer: dict[str, object] = json.loads(connection.getresponse().read())
        return answer


async def load(port: int, documents: int, words: int) -> int:
    """Hand documents in, wait until each is ready or failed, return how many are ready."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def add(number: int) -> str:
        async with slots:
            body = {"text": markdown(number, words)}
            return str((await asyncio.to_thread(ask, port, "POST", "/documents", body))["id"])

    ids = await asyncio.gather(*(add(number) for number in range(documents)))
    states: dict[str, object] = {}
    async with asyncio.timeout(READY_TIMEOUT):
        for one in ids:
            while states.get(one) not in {"ready", "failed"}:
                states[one] = (await asyncio.to_thread(ask, port, "GET", f"/documents/{one}"))[
                    "state"
                ]
                if states[one] not in {"ready", "failed"}:
                    await asyncio.sleep(0.2)
    return sum(state == "ready" for state in states.values())


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ingestion")
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--words", type=int, default=600, help="of each document, about")
    given = parser.parse_args()
    project = rendered_service()
    python = project / ".venv" / "bin" / "python"
    store = project / "data" / "bench.db"
    for path in project.glob("data/bench.db*"):
        path.unlink()
    idle: list[float] = []
    busy: list[float] = []
    url = f"sqlite:///{store}"
    with running(python, "app", cwd=project, VECTOR_STORE_URL=url, LOG_LEVEL="ERROR") as service:
        with probing(service.port, idle):
            time.sleep(IDLE_SECONDS)
        start = time.perf_counter()
        with probing(service.port, busy):
            ready = asyncio.run(load(service.port, given.documents, given.words))
        seconds = time.perf_counter() - start
    print(f"{ready} of {given.documents} documents ready after {seconds:.0f} s\n")
    print("| /livez | p50, ms | p99, ms | worst, ms |\n|---|--:|--:|--:|")
    for name, latency in ("idle", summary(idle)), ("meanwhile", summary(busy)):
        print(f"| {name} | {latency.p50:.1f} | {latency.p99:.1f} | {latency.worst:.1f} |")


if __name__ == "__main__":
    main()
