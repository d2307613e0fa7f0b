"""Functions run in processes of their own, which die where a thread would run on.

For: CPU-bound work on what others send. The event loop keeps its turns, a deadline or a cancel
kills the process at once, and so does more memory than allowed. `anyio.to_process` and
`concurrent.futures` were tried: the first leaves a process behind that is cancelled while it
starts and runs the caller's `__main__` once more in each, the second cannot kill one.

Guarantees: at most `processes` at once, started when first needed, with lower priority than
their parent. A process that was late, cancelled or short of memory is not used again. None
outlives its pool; where the parent is killed, an idle process ends at once, and a busy one with
its call, a few seconds after its deadline at the latest (on Windows: with its call).

Calls, their results and errors must be picklable, and functions importable: not from `__main__`.

    async with WorkerPool(processes=2, timeout=60) as pool:
        answer = await pool.run(partial(function, argument))

Needs the standard library only.
"""

import asyncio
import logging
import os
import pickle
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from types import TracebackType
from typing import Self, TypeVar

if sys.platform == "linux":
    import resource

T = TypeVar("T")

MEMORY = 1 << 30
"""Bytes of address space a process may have (where the system can hold it to that: Linux)."""
NICENESS = 10
"""Added to the parent's: the loop goes first (nice(2))."""
SIZE = 8
"""Bytes in which the length of a call, or of an answer, is sent ahead of it."""
ORPHANED = 5
"""Seconds past its deadline after which a process kills itself, were it not for its parent."""

_START = f"""
import sys
_, memory, timeout, *sys.path[:] = sys.argv
from {__name__} import serve
serve(int(memory), int(timeout))
"""


class WorkerDiedError(Exception):
    """The process ended before its function did: killed from outside, or crashed."""

    type = "worker_died"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class WorkerPool:
    """Up to `processes` processes, which have `timeout` seconds for a call.

    Open it with `async with`, which starts none yet; close it when no call is under way.
    """

    def __init__(self, *, processes: int = 2, timeout: float = 60, memory: int = MEMORY) -> None:
        self.timeout = timeout
        self._slots = asyncio.Semaphore(processes)
        self._memory = memory
        self._idle: list[Process] = []
        self._all: set[Process] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._idle.clear()
        for process in self._all:
            _kill(process)
        for process in self._all:
            await process.wait()
            _to(process).close()  # there are Pythons where the wait is not for the pipes
            with suppress(ConnectionError):
                await _to(process).wait_closed()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what the call returns, or raise what it raises.

        TimeoutError after the pool's timeout, the wait for a free process not counted;
        WorkerDiedError if the process ended.
        """
        async with self._slots, asyncio.timeout(self.timeout):
            request = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
            process = self._waiting() or await self._start()
            try:
                returned, outcome = pickle.loads(await _ask(process, request))  # noqa: S301 -- our own
            except BaseException:
                _kill(process)
                raise
        if isinstance(outcome, MemoryError):
            _kill(process)
        else:
            self._idle.append(process)
        if not returned:
            raise outcome
        result: T = outcome
        return result

    def _waiting(self) -> Process | None:
        """Take an idle process that still lives."""
        self._all = {process for process in self._all if process.returncode is None}
        self._idle = [process for process in self._idle if process in self._all]
        return self._idle.pop() if self._idle else None

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", _START, str(self._memory), str(ceil(self.timeout) + ORPHANED), *sys.path),
            stdin=PIPE,
            stdout=PIPE,
            limit=self._memory,  # read all there is: a pipe nobody reads from is never closed
            start_new_session=True,  # Ctrl-C is for the parent
        )
        self._all.add(process)
        return process


async def _ask(process: Process, request: bytes) -> bytes:
    """Send the process a call, and return its answer."""
    stdin, stdout = _to(process), process.stdout
    assert stdout  # noqa: S101 -- it is a pipe
    try:
        stdin.write(len(request).to_bytes(SIZE, "big"))
        stdin.write(request)
        await stdin.drain()
        size = int.from_bytes(await stdout.readexactly(SIZE), "big")
        return await stdout.readexactly(size)
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        status = await process.wait()
        raise WorkerDiedError(f"The worker process ended with status {status}") from error


def _to(process: Process) -> asyncio.StreamWriter:
    assert process.stdin  # noqa: S101 -- it is a pipe
    return process.stdin


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


def serve(memory: int, timeout: int) -> None:
    """Be the worker process: make the calls that come in, until the parent closes the pipe."""
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not get in between
    logging.disable()
    if sys.platform != "win32":
        os.nice(NICENESS)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly if nobody wants the answer
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    while size := calls.read(SIZE):
        answer = _outcome(calls.read(int.from_bytes(size, "big")), timeout)
        answers.write(len(answer).to_bytes(SIZE, "big"))
        answers.write(answer)
        answers.flush()


def _outcome(request: bytes, timeout: int) -> bytes:
    """Return, pickled, whether the call returned, and what it returned or raised."""
    if sys.platform != "win32":
        signal.alarm(timeout)  # for a parent that is gone
    try:
        result = pickle.loads(request)()  # noqa: S301 -- from the parent
        return pickle.dumps((True, result), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 -- it is raised in the parent
        return _raised(error)
    finally:
        if sys.platform != "win32":
            signal.alarm(0)


def _raised(error: Exception) -> bytes:
    """Pickle an error, or one that says the same if it cannot be."""
    try:
        pickled = pickle.dumps((False, error))
        pickle.loads(pickled)  # noqa: S301 -- our own
    except Exception:  # noqa: BLE001 -- pickling raises anything
        return pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
    return pickled
