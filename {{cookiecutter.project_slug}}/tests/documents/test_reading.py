"""The processes that read documents: none harms another, none outlives its reader."""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from pebble import ProcessExpired

from app.documents import reading
from app.documents.reading import Reader, UnreadableError
from tests.documents import hostile
from tests.service import PATIENCE, eventually


@pytest.fixture
def hostile_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the processes do what the documents name."""
    monkeypatch.setattr(reading, "_read", hostile.act)


class Processes:
    """The processes that connect to `port`; a connection ends with its process."""

    def __init__(self) -> None:
        self.port = b""
        self._connected = asyncio.Queue[tuple[int, asyncio.StreamReader]]()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep a connection until its process ends."""
        pid = int.from_bytes(await reader.readexactly(4), "big")
        end = asyncio.StreamReader()
        self._connected.put_nowait((pid, end))
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        end.feed_eof()

    async def next(self) -> tuple[int, asyncio.StreamReader]:
        """Return the id of the next process, and what is at its end when the process is."""
        async with asyncio.timeout(PATIENCE):
            return await self._connected.get()


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """Listen for processes."""
    processes = Processes()
    async with await asyncio.start_server(processes.accept, "127.0.0.1", 0) as listening:
        processes.port = str(listening.sockets[0].getsockname()[1]).encode()
        yield processes


async def read(reader: Reader, content: bytes = b"identify", title: str = "") -> Any:
    """Read a document."""
    async with asyncio.timeout(PATIENCE):
        return await reader.read(content, media_type="", filename="a.md", title=title)


async def test_reader() -> None:
    """A document becomes passages below its title."""
    async with Reader(1) as reader:
        assert await read(reader, b"# Guide\n\nText.") == ("Guide", ["Guide\n\n# Guide\n\nText."])
        assert await read(reader, b"Text.", title="Mine") == ("Mine", ["Mine\n\nText."])
        with pytest.raises(UnreadableError, match="is binary"):
            await read(reader, b"\0\1")


@pytest.mark.usefixtures("hostile_read")
@pytest.mark.parametrize(
    ("document", "error", "message"),
    [
        (b"hang", UnreadableError, r"\(4 bytes\) took more than 0.3 s"),
        (b"exhaust", UnreadableError, r"\(7 bytes\) took more than 1,073,741,824 bytes"),
        (b"crash", ProcessExpired, "termination"),
    ],
)
async def test_hostile_document(document: bytes, error: type[Exception], message: str) -> None:
    """What takes too much time or memory is unreadable, a crash is an error; the next is read."""
    async with Reader(1, timeout=0.3) as reader:
        with pytest.raises(error, match=message):
            await read(reader, document)
        assert await read(reader) != os.getpid()


@pytest.mark.usefixtures("hostile_read")
@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda _, pid: os.kill(pid, signal.SIGKILL), ProcessExpired),
        (lambda task, _: task.cancel(), asyncio.CancelledError),
    ],
    ids=["killed", "cancelled"],
)
async def test_interrupted_read(
    processes: Processes,
    end: Callable[[asyncio.Task[Any], int], object],
    error: type[BaseException],
) -> None:
    """The process of a cancelled read ends; its kill from outside is an error of the read."""
    async with Reader(1) as reader:
        task = asyncio.create_task(read(reader, processes.port))
        pid, ended = await processes.next()
        end(task, pid)
        with pytest.raises(error):
            await task
        assert await ended.read() == b""
        assert await read(reader)


@pytest.mark.usefixtures("hostile_read")
async def test_kill_of_an_idle_process() -> None:
    """Another process reads the next document."""
    async with Reader(1) as reader:
        for _ in range(2):
            os.kill(await read(reader), signal.SIGKILL)
            await eventually(lambda: not reader._pool.active)
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("hostile_read")
async def test_closing(processes: Processes) -> None:
    """No process outlives its reader, also a busy one; it is terminated by the signal itself."""
    async with Reader(1) as reader:
        task = asyncio.create_task(read(reader, processes.port))
        await processes.next()
        (child,) = multiprocessing.active_children()
    assert multiprocessing.active_children() == []
    assert child.exitcode == -signal.SIGTERM
    task.cancel()
    await asyncio.wait([task])


PARENT = """
import asyncio, sys
from app.documents import reading
from tests.documents import hostile

reading._read = hostile.act
asyncio.run(reading.Reader(1).read(sys.argv[1].encode(), media_type="", filename=""))
"""


async def test_kill_of_the_parent(processes: Processes) -> None:
    """A busy process ends with its parent."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, processes.port.decode()), stderr=asyncio.subprocess.DEVNULL
    )
    _, ended = await processes.next()
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(PATIENCE):
        assert await ended.read() == b""
