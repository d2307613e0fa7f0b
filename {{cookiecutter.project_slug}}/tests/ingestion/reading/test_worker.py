"""Worker processes: what they answer, and that they are gone when they should be."""

import asyncio
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from operator import truediv
from pathlib import Path
from typing import NoReturn

import pytest
import uvloop

from app.ingestion.worker import MEMORY, NICENESS, SIZE, WorkerDiedError, WorkerPool
from tests.ingestion.reading import calls

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs its /proc or its limits")
SAFETY = 30


class Lobby:
    """Where worker processes wait to be released; when one ends, its reader does."""

    def __init__(self) -> None:
        self.port = 0
        self._arrived: asyncio.Queue[tuple[int, asyncio.StreamReader, asyncio.StreamWriter]]
        self._arrived = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take in a process."""
        self._writers.append(writer)
        self._arrived.put_nowait(
            (int.from_bytes(await reader.readexactly(4), "big"), reader, writer)
        )

    async def arrival(self) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
        """Wait for the next process: its id, and its connection."""
        async with asyncio.timeout(SAFETY):
            return await self._arrived.get()

    def close(self) -> None:
        """Hang up."""
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def lobby() -> AsyncIterator[Lobby]:
    """Provide a lobby; its port is where `wait_for_release` goes."""
    lobby = Lobby()
    async with await asyncio.start_server(lobby.enter, "127.0.0.1", 0) as server:
        lobby.port = server.sockets[0].getsockname()[1]
        yield lobby
        lobby.close()


async def end_of(reader: asyncio.StreamReader) -> None:
    """Wait for the end of the process at the other end."""
    async with asyncio.timeout(SAFETY):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)


async def gone(pid: int) -> None:
    """Wait until there is no such process, not even a zombie."""
    async with asyncio.timeout(SAFETY):
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110, ASYNC240 -- the system tells nobody
            await asyncio.sleep(0.01)


def children() -> set[int]:
    """Return the ids of this process' children, zombies included.

    Not from `task/*/children`: a thread may end meanwhile, and its children pass to another.
    """
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # some other process has ended
            pid, _, rest = stat.read_text(errors="replace").partition(" (")
            if int(rest.rpartition(") ")[2].split()[1]) == os.getpid():
                found.add(int(pid))
    return found


async def test_a_process_serves_call_after_call() -> None:
    """It is another process than this, and the same for the next call."""
    async with WorkerPool() as pool:
        first, second = [await pool.run(os.getpid) for _ in range(2)]
    assert first == second != os.getpid()


async def test_a_process_is_out_of_the_way() -> None:
    """It has a lower priority, and no Ctrl-C reaches it."""
    async with WorkerPool() as pool:
        assert await pool.run(partial(os.nice, 0)) == min(19, os.nice(0) + NICENESS)
        assert await pool.run(partial(os.getsid, 0)) != os.getsid(0)


async def test_calls_and_answers_may_be_large() -> None:
    """Far above what a pipe or a stream buffers."""
    content = b"x" * 20_000_000
    async with WorkerPool() as pool:
        assert await pool.run(partial(bytes.upper, content)) == content.upper()


async def test_no_more_processes_than_allowed(lobby: Lobby) -> None:
    """Further calls wait until one of the processes is free."""
    async with WorkerPool(processes=2, timeout=SAFETY) as pool, asyncio.TaskGroup() as tasks:
        runs = [
            tasks.create_task(pool.run(partial(calls.wait_for_release, lobby.port)))
            for _ in range(5)
        ]
        waiting = [await lobby.arrival(), await lobby.arrival()]
        for _ in range(3):
            waiting.pop(0)[2].write(b".")
            waiting.append(await lobby.arrival())
        for _, _, writer in waiting:
            writer.write(b".")
    assert len({run.result() for run in runs}) == 2


async def test_an_error_is_raised_here_and_the_process_serves_on() -> None:
    """A document that cannot be read costs no process."""
    async with WorkerPool() as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(ZeroDivisionError):
            await pool.run(partial(truediv, 1, 0))
        assert await pool.run(os.getpid) == pid


@pytest.mark.parametrize("call", [calls.raise_unpicklable, calls.raise_unloadable])
async def test_an_error_that_cannot_be_sent_says_the_same(call: Callable[[], NoReturn]) -> None:
    """As a RuntimeError that names it."""
    async with WorkerPool() as pool:
        with pytest.raises(RuntimeError, match=r"Un\w+ableError: the words"):
            await pool.run(call)


async def test_a_call_that_cannot_be_loaded_says_why() -> None:
    """Such as a function of a module that is not there; it is no reason to try again."""
    async with WorkerPool() as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(ValueError, match="seven"):
            await pool.run(calls.Unloadable())
        assert await pool.run(os.getpid) == pid


async def test_a_call_that_cannot_be_sent_costs_nothing() -> None:
    """Its error is raised, and the pool goes on."""
    async with WorkerPool(processes=1) as pool:
        with pytest.raises((AttributeError, TypeError)):
            await pool.run(lambda: 1)
        assert await pool.run(os.getpid)


async def test_what_a_call_prints_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to standard error."""
    async with WorkerPool() as pool:
        await pool.run(partial(calls.say, "printed"))
    assert capfd.readouterr() == ("", "printed again")


@linux
async def test_a_late_process_is_killed() -> None:
    """The deadline is a TimeoutError, the process goes, and the next call has another."""
    async with WorkerPool(processes=1, timeout=SAFETY) as pool:
        pid = await pool.run(os.getpid)
        pool.timeout = 0.2
        with pytest.raises(TimeoutError):
            await pool.run(calls.hang)
        pool.timeout = SAFETY
        await gone(pid)
        assert await pool.run(os.getpid) != pid


async def test_a_cancelled_call_ends_its_process(lobby: Lobby) -> None:
    """At once: nobody wants the answer, and the next call has a process of its own."""
    async with WorkerPool(processes=1, timeout=SAFETY) as pool:
        run = asyncio.create_task(pool.run(partial(calls.wait_for_release, lobby.port)))
        pid, reader, _ = await lobby.arrival()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await end_of(reader)
        assert await pool.run(os.getpid) != pid


@pytest.mark.parametrize("reads", [1, 20, 100])
async def test_a_call_cancelled_while_it_answers_keeps_nothing_open(
    reads: int, lobby: Lobby
) -> None:
    """However much of the answer is read by then, its process and pipes end with the pool."""
    async with asyncio.timeout(SAFETY), WorkerPool(processes=1) as pool:
        run = asyncio.create_task(pool.run(partial(calls.answer_much, lobby.port)))
        _, reader, writer = await lobby.arrival()
        writer.write(b".")
        await end_of(reader)
        for _ in range(reads):
            await asyncio.sleep(0.001)
        run.cancel()
        await asyncio.wait([run])
        assert await pool.run(os.getpid)


@linux
@pytest.mark.parametrize("steps", [0, 1, 3, 6])
async def test_a_process_cancelled_while_it_starts_is_not_left(steps: int) -> None:
    """Wherever the cancel meets the start, the pool serves on and nothing outlives it."""
    before = children()
    async with WorkerPool(processes=1, timeout=SAFETY) as pool:
        run = asyncio.create_task(pool.run(calls.hang))
        for _ in range(steps):
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await pool.run(os.getpid)
    async with asyncio.timeout(SAFETY):
        while children() - before:  # noqa: ASYNC110 -- the system tells nobody
            await asyncio.sleep(0.01)


async def test_a_killed_process_is_an_error_that_may_heal(lobby: Lobby) -> None:
    """The call fails with the status, and the next one has a new process."""
    async with WorkerPool(processes=1, timeout=SAFETY) as pool:
        run = asyncio.create_task(pool.run(partial(calls.wait_for_release, lobby.port)))
        pid, _, _ = await lobby.arrival()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="status -9"):
            await run
        with pytest.raises(WorkerDiedError, match="status 7"):
            await pool.run(calls.vanish)
        assert await pool.run(os.getpid) != pid


@linux
async def test_an_idle_process_that_was_killed_is_replaced() -> None:
    """Nobody notices."""
    async with WorkerPool(processes=1, timeout=SAFETY) as pool:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        await asyncio.sleep(0.1)  # in 3.11 a thread tells the loop
        assert await pool.run(os.getpid) != pid


@linux
async def test_a_process_short_of_memory_is_replaced() -> None:
    """Its call is a MemoryError here, and takes no memory from others."""
    async with WorkerPool(processes=1, timeout=SAFETY) as pool:
        pid = await pool.run(os.getpid)
        with pytest.raises(MemoryError):
            await pool.run(calls.exhaust)
        assert await pool.run(os.getpid) != pid
        await gone(pid)


async def test_no_process_outlives_the_pool(lobby: Lobby) -> None:
    """Neither idle nor busy ones; who waits for one is told that it ended."""
    async with WorkerPool(timeout=SAFETY) as pool:
        await pool.run(os.getpid)
        run = asyncio.create_task(pool.run(partial(calls.wait_for_release, lobby.port)))
        _, reader, _ = await lobby.arrival()
    await end_of(reader)
    with pytest.raises(WorkerDiedError):
        await run


def served(call: Callable[[], object], *, timeout: int) -> subprocess.CompletedProcess[bytes]:
    """Run a worker process whose parent, after one call, is gone."""
    program = f"from app.ingestion.worker import serve; serve({MEMORY}, {timeout})"
    request = pickle.dumps(call)
    nobody, answers = os.pipe()
    os.close(nobody)
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program],
        input=len(request).to_bytes(SIZE, "big") + request,
        stdout=answers,
        stderr=subprocess.PIPE,
        timeout=SAFETY,
        check=False,
    )
    os.close(answers)
    return ran


@pytest.mark.parametrize(
    ("call", "timeout", "ended"),
    [(os.getpid, SAFETY, signal.SIGPIPE), (calls.hang, 1, signal.SIGALRM)],
)
def test_a_busy_process_ends_without_its_parent(
    call: Callable[[], object], timeout: int, ended: signal.Signals
) -> None:
    """Quietly, with its call or at the latest soon after the deadline."""
    ran = served(call, timeout=timeout)
    assert (ran.returncode, ran.stderr) == (-ended, b"")


PARENT = """
import asyncio, os, sys
from pathlib import Path
from app.ingestion.worker import WorkerPool

with Path(sys.argv[1]).open("a") as file:
    file.write("ran ")

async def main():
    async with WorkerPool(timeout=30) as pool:
        print(await pool.run(os.getpid), flush=True)
        await asyncio.Event().wait()

if __name__ == "__main__":
    asyncio.run(main())
"""


@linux
def test_an_idle_process_ends_with_a_killed_parent(tmp_path: Path) -> None:
    """It does not depend on the parent's last words; nor runs the parent's program again."""
    program, trace, elsewhere = tmp_path / "program.py", tmp_path / "trace", tmp_path / "elsewhere"
    program.write_text(PARENT)
    elsewhere.mkdir()
    (elsewhere / "pickle.py").write_text("raise SystemExit('the wrong one')")
    with subprocess.Popen(  # noqa: S603
        [sys.executable, program, trace],
        cwd=elsewhere,
        env={"PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
        os_waits_for(pid)
    assert trace.read_text() == "ran "


def os_waits_for(pid: int) -> None:
    """Wait for the end of a process that is not a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], SAFETY)[0]
    os.close(descriptor)


def test_it_works_on_uvloop() -> None:
    """Which the service runs on."""

    async def main() -> None:
        async with WorkerPool(processes=1, timeout=SAFETY) as pool:
            pid = await pool.run(os.getpid)
            run = asyncio.create_task(pool.run(calls.hang))
            await asyncio.sleep(0)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert await pool.run(os.getpid) != pid

    uvloop.run(main())
