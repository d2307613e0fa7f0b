"""What the tests have reading processes do instead of reading; small, as each imports it."""

import ctypes
import os
import socket
from threading import Event

from app.documents import reading


def act(content: bytes, *_: str) -> int:
    """Do what the content names, and return the process' id.

    A number is a port: send the id there, and wait until the connection ends.
    """
    match content.decode():
        case "hang":
            Event().wait()
        case "exhaust":
            bytes(reading.MEMORY)
        case "crash":
            ctypes.string_at(0)
        case port if port.isdecimal():
            with socket.create_connection(("127.0.0.1", int(port))) as connection:
                connection.sendall(os.getpid().to_bytes(4, "big"))
                connection.recv(1)
    return os.getpid()
