"""What the tests have reading processes do instead of reading; small, as each imports it."""

import ctypes
import os
import socket
from threading import Event
from typing import NoReturn

from app.documents import reading

_Arguments = str | bytes


def connect(_content: bytes, _media_type: str, _filename: str, title: str) -> int:
    """Send this process' id to the port that the title names, and wait for an answer."""
    with socket.create_connection(("127.0.0.1", int(title))) as connection:
        connection.sendall(os.getpid().to_bytes(4, "big"))
        connection.recv(1)
    return os.getpid()


def hang(*_: _Arguments) -> NoReturn:
    """Never return."""
    Event().wait()
    raise AssertionError


def exhaust(*_: _Arguments) -> int:
    """Ask for all the memory that a process may have."""
    return len(bytes(reading.MEMORY))


def crash(*_: _Arguments) -> bytes:
    """Read at address 0."""
    return ctypes.string_at(0)


def identify(*_: _Arguments) -> int:
    """Return the process' id."""
    return os.getpid()
