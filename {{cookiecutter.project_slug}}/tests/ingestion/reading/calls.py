"""What the tests have worker processes do; they say hello on a socket, whose end is their end."""

import os
import socket
import sys
import threading
from typing import NoReturn

from app.ingestion.worker import MEMORY


def wait_for_release(port: int) -> int:
    """Say which process this is, and return that when told to."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(os.getpid().to_bytes(4, "big"))
        connection.recv(1)
    return os.getpid()


def answer_much(port: int) -> bytes:
    """Wait for release as well, and return what takes a while to send."""
    wait_for_release(port)
    return bytes(30_000_000)


def hang(_text: str = "") -> NoReturn:
    """Never return."""
    threading.Event().wait()
    raise AssertionError


def exhaust(_text: str = "") -> int:
    """Ask for all the memory that a process may have."""
    return len(bytes(MEMORY))


def vanish(_text: str = "") -> NoReturn:
    """End the process."""
    os._exit(7)


def count_words(text: str) -> int:
    """Estimate tokens in another way than the default."""
    return len(text.split())


def say(text: str) -> None:
    """Print where an answer would be read."""
    sys.stdout.write(text)
    sys.stdout.flush()
    os.write(1, b" again")


class UnpicklableError(Exception):
    """Cannot be sent back."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("no")


class UnloadableError(Exception):
    """Can be sent back, but not be loaded here."""

    def __init__(self, one: str, _other: str) -> None:
        super().__init__(one)


def raise_unpicklable() -> NoReturn:
    """Raise what cannot be sent back."""
    raise UnpicklableError("the words")


def raise_unloadable() -> NoReturn:
    """Raise what cannot be loaded here."""
    raise UnloadableError("the words", "")


class Unloadable:
    """A call that can be sent, but not loaded by the process."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("seven",)

    def __call__(self) -> None:
        """Do nothing."""
