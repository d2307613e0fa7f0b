"""Documents in each format, and the processes that read them."""

import asyncio
import codecs
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
from app.documents.extraction import MAX_TEXT, extract
from app.documents.reading import Reader, UnreadableError
from tests.documents import hostile
from tests.documents.parts import pdf
from tests.service import PATIENCE, eventually

TEXT = "Grüße, “Welt” 漢字"
PAGE = b"""<!DOCTYPE html><html><head><title>The  page</title><style>p {}</style>
<script>alert(1)</script></head><body><nav>Home</nav><h1>Heading</h1>
<p>Some <b>text</b>.</p><svg><text>drawn</text></svg></body></html>"""
PAGE_TEXT = "# Heading\n\nSome **text**."


@pytest.mark.parametrize(
    ("content", "media_type", "filename", "title", "text"),
    [
        (b"Hello\nyou", None, None, "Hello", "Hello\nyou"),
        (b"# no Markdown", "text/plain", "dir\\a.b.txt", "a.b", "# no Markdown"),
        (b"# One\n\ntext", "text/markdown", None, "One", "# One\n\ntext"),
        (b"text\n# One", "text/plain", "x.MD", "One", "text\n# One"),
        (b"# One\n\n<p>a", "text/html", "x.md", "One", "# One\n\n<p>a"),
        (b"# " + b"word " * 90, None, "x.md", f"{'word ' * 39}word", f"# {'word ' * 89}word"),
        (b"---\ntitle: 'It''s'\na: b\n---\ntext", None, "x.md", "It''s", "text"),
        (b"---\n\ntitle: no\n\n---\ntext", None, "x.md", "x", "---\n\ntitle: no\n\n---\ntext"),
        (b"a\x1b[1m\x7f\r\nb\rc\x0cd", None, "x", "x", "a[1m\nb\nc\n\nd"),
        (PAGE, "text/html; charset=utf-8", None, "The page", PAGE_TEXT),
        (PAGE, "text/plain", "a.html", "The page", PAGE_TEXT),
        (PAGE, None, None, "The page", PAGE_TEXT),
        (b"<h1>One</h1>", "text/html", "a", "One", "# One"),
        (pdf("First.", "", "Third.", title="A guide"), None, None, "A guide", "First.\n\nThird."),
        (pdf("An exam-\nple."), "text/plain", "a.txt", "a", "An example."),
        (pdf("Text.", password=""), "application/pdf", None, "Text.", "Text."),
    ],
)
def test_title_and_text(
    content: bytes, media_type: str | None, filename: str | None, title: str, text: str
) -> None:
    """First bytes of a PDF, name, media type, first bytes of HTML: in this order they decide."""
    found_title, found = extract(content, media_type=media_type, filename=filename)
    assert (found_title, found.strip()) == (title, text)


@pytest.mark.parametrize(
    ("content", "media_type", "text"),
    [
        (TEXT.encode(), "text/plain; charset=ascii", TEXT),
        (codecs.BOM_UTF8 + TEXT.encode(), None, TEXT),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "text/plain; charset=latin-1", TEXT),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), None, TEXT),
        (TEXT.encode("gb18030"), 'text/plain; charset="GB18030"', TEXT),
        ("“é”".encode("windows-1252"), "text/plain; charset=utf-8", "“é”"),
        ('<meta charset="shift_jis">漢字'.encode("shift_jis"), "text/html", "漢字"),
    ],
)
def test_encoding(content: bytes, media_type: str | None, text: str) -> None:
    """A byte order mark counts before the declared charset, that before UTF-8, if it fits."""
    assert extract(content, media_type=media_type)[1].strip() == text


@pytest.mark.parametrize(
    ("content", "media_type", "message"),
    [
        (b" \n\x0c\x07", "text/plain", r"\(text, 4 bytes\) has no text"),
        (b"<html><script>1</script></html>", None, r"html, .*has no text"),
        (b"GIF89a\0\0", "application/octet-stream", "is binary: send plain text"),
        (b"<p>" + b"<div>" * 100_000 + b"deep", "text/html", "nested too deeply"),
        (b"Hello %PDF-1.7\n" + b"garbage\n" * 100, None, r"The PDF cannot be read: .{1,200}"),
        (pdf("Some text.")[:500], None, "The PDF cannot be read"),
        (pdf("Text.", password="secret"), None, "password"),
        (pdf("", ""), None, r"\(pdf, .* has no text: a scan needs text recognition \(OCR\)"),
        (b"a" * (MAX_TEXT + 1), None, r"has 4,000,001 bytes .* 4,000,000 are accepted: split"),
        ("漢".encode() * (MAX_TEXT // 3 + 1), None, "has 4,000,002 bytes"),
    ],
)
def test_unreadable(content: bytes, media_type: str | None, message: str) -> None:
    """Each kind of document that cannot be read has its own error of one line."""
    with pytest.raises(UnreadableError, match=message) as caught:
        extract(content, media_type=media_type)
    assert len(str(caught.value).splitlines()) == 1


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
        return await reader.read(content, media_type=None, filename="a.md", title=title)


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
asyncio.run(reading.Reader(1).read(b"", media_type=None, filename=None, title=sys.argv[1]))
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
