"""From a document's bytes to its passages, in processes that can be killed.

Guarantees: a hostile document costs one process, not the event loop. A read ends after `timeout`
seconds, with more than MEMORY bytes, or when it is cancelled. No process outlives its parent.

    async with Reader(processes=2) as reader:
        title, passages = await reader.read(content, media_type="", filename="guide.md")

Needs: the package pebble, and those of `extraction` and `splitting`.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from types import ModuleType
from typing import Self

from pebble import ProcessPool

from .extraction import UnreadableError, extract
from .splitting import split

__all__ = ["Reader", "UnreadableError"]

MEMORY = 1 << 30
"""Bytes of address space of a process (on Linux)."""


class _Process(SpawnProcess):
    """A process that does not import the program's main module, which may take seconds."""

    def start(self) -> None:
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            super().start()
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Process


class Reader:
    """Reads up to `processes` documents at once; the processes start with the first one."""

    def __init__(self, processes: int = 2, timeout: float = 60.0) -> None:
        self._processes = processes
        self._timeout = timeout
        self._starting = asyncio.Lock()
        self._pool = self._new_pool()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.to_thread(_stop, self._pool)

    async def read(
        self, content: bytes, *, media_type: str, filename: str, title: str = ""
    ) -> tuple[str, list[str]]:
        """Return the document's title, its own unless one is given, and its passages.

        UnreadableError if it cannot be read, now or later. Any other error may be transient, such
        as ProcessExpired: the process crashed, or was killed from outside.
        """
        reading = f"Reading the document ({len(content):,} bytes)"
        arguments = (content, media_type, filename, title)
        async with self._starting:
            await asyncio.to_thread(self._ensure_running)
        future = self._pool.schedule(_read, arguments, timeout=self._timeout)
        try:
            return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise UnreadableError(f"{reading} took more than {self._timeout:g} s") from error
        except MemoryError as error:
            raise UnreadableError(f"{reading} took more than {MEMORY:,} bytes") from error

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(self._processes, initializer=_prepare_process, context=_Context())

    def _ensure_running(self) -> None:
        """Start the pool, or a new one: Pebble's does not survive the kill of an idle process."""
        while not self._pool.active:
            _stop(self._pool)
            self._pool = self._new_pool()


def _stop(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


def _prepare_process() -> None:
    """Let the process end with its parent, or when terminated in C code; limit what it takes."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()
    if sys.platform == "linux":
        import resource  # noqa: PLC0415 -- not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.nice(10)  # the event loop has priority


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _read(content: bytes, media_type: str, filename: str, title: str) -> tuple[str, list[str]]:
    own_title, text = extract(content, media_type=media_type, filename=filename)
    return title or own_title, split(text, title=title or own_title)
