"""The processes that read documents."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from pebble import ProcessExpired

from app.documents import reading
from app.documents.reading import Reader, UnreadableError
from tests.documents import hostile
from tests.service import PATIENCE, eventually

Replace = Callable[[object], None]


@pytest.fixture
def replace_read(monkeypatch: pytest.MonkeyPatch) -> Replace:
    """Have the processes do something else."""
    return lambda function: monkeypatch.setattr(reading, "_read", function)


class Process(NamedTuple):
    """A process in `hostile.connect`; its connection ends with it."""

    pid: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def end(self) -> None:
        """Wait for the end of the process."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionResetError):
                assert await self.reader.read() == b""
        self.writer.close()


Server = tuple[str, Callable[[], Awaitable[Process]]]
"""A port, and what waits for the next process that connects to it."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Provide a server whose port is a title for `hostile.connect`."""
    processes = asyncio.Queue[Process]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pid = int.from_bytes(await reader.readexactly(4), "big")
        processes.put_nowait(Process(pid, reader, writer))

    async def connected() -> Process:
        async with asyncio.timeout(PATIENCE):
            return await processes.get()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
        yield str(listening.sockets[0].getsockname()[1]), connected


async def read(reader: Reader, content: bytes = b"Hello", title: str = "") -> Any:
    """Read a document."""
    async with asyncio.timeout(PATIENCE):
        return await reader.read(content, media_type="", filename="a.md", title=title)


async def test_reader(replace_read: Replace) -> None:
    """A document becomes passages below its title, in another process."""
    async with Reader(1) as reader:
        assert await read(reader, b"# Guide\n\nText.") == ("Guide", ["Guide\n\n# Guide\n\nText."])
        assert await read(reader, b"Text.", title="Mine") == ("Mine", ["Mine\n\nText."])
        with pytest.raises(UnreadableError, match="is binary"):
            await read(reader, b"\0\1")
        replace_read(hostile.identify)
        assert await read(reader) != os.getpid()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (hostile.hang, UnreadableError, r"\(5 bytes\) took more than 0.3 s"),
        (hostile.exhaust, UnreadableError, r"\(5 bytes\) took more than 1,073,741,824 bytes"),
        (hostile.crash, ProcessExpired, "termination"),
    ],
)
async def test_hostile_document(
    replace_read: Replace, function: Callable[[], object], error: type[Exception], message: str
) -> None:
    """What takes too much time or memory is unreadable, a crash is an error; the next is read."""
    replace_read(function)
    async with Reader(1, timeout=0.3) as reader:
        with pytest.raises(error, match=message):
            await read(reader)
        replace_read(hostile.identify)
        assert await read(reader)


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda _, process: os.kill(process.pid, signal.SIGKILL), ProcessExpired),
        (lambda task, _: task.cancel(), asyncio.CancelledError),
    ],
    ids=["killed", "cancelled"],
)
async def test_interrupted_read(
    replace_read: Replace,
    server: Server,
    end: Callable[[asyncio.Task[Any], Process], object],
    error: type[BaseException],
) -> None:
    """The process of a cancelled read ends; its kill from outside is an error of the read."""
    replace_read(hostile.connect)
    port, connected = server
    async with Reader(1) as reader:
        task = asyncio.create_task(read(reader, title=port))
        process = await connected()
        end(task, process)
        with pytest.raises(error):
            await task
        await process.end()
        replace_read(hostile.identify)
        assert await read(reader)


async def test_kill_of_an_idle_process(replace_read: Replace) -> None:
    """Another process reads the next document."""
    replace_read(hostile.identify)
    async with Reader(1) as reader:
        for _ in range(2):
            os.kill(await read(reader), signal.SIGKILL)
            await eventually(lambda: not reader._pool.active)
    assert multiprocessing.active_children() == []


async def test_closing(replace_read: Replace, server: Server) -> None:
    """No process outlives its reader, also a busy one; it is terminated by the signal itself."""
    replace_read(hostile.connect)
    port, connected = server
    async with Reader(1) as reader:
        task = asyncio.create_task(read(reader, title=port))
        process = await connected()
        (child,) = multiprocessing.active_children()
    await process.end()
    assert multiprocessing.active_children() == []
    assert child.exitcode == -signal.SIGTERM
    task.cancel()
    await asyncio.wait([task])


PARENT = """
import asyncio, sys
from app.documents import reading
from tests.documents import hostile

reading._read = hostile.connect
asyncio.run(reading.Reader(1).read(b"", media_type="", filename="", title=sys.argv[1]))
"""


async def test_kill_of_the_parent(server: Server) -> None:
    """A busy process ends with its parent."""
    port, connected = server
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, port), stderr=asyncio.subprocess.DEVNULL
    )
    process = await connected()
    parent.kill()
    await parent.wait()
    await process.end()
