"""Measure the estimate of tokens against tiktoken, on texts of your own.

    uv run --with tiktoken python -m tests.ratelimit.measure_estimate NAME='GLOB' ...

prints for each encoding and each name how much too high (+) or too low (-) the estimate is.
"""

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from app.ratelimit.estimate import estimate_text

ENCODINGS = ("o200k_base", "cl100k_base")


def error(texts: Iterable[str], encode: Callable[[str], list[int]]) -> float:
    """Return by which part of the real number of tokens the estimate is off."""
    pairs = [(estimate_text(text), len(encode(text))) for text in texts]
    return sum(guess for guess, _ in pairs) / sum(real for _, real in pairs) - 1


def main(arguments: list[str]) -> None:
    """Print a line for each encoding and argument."""
    tiktoken = importlib.import_module("tiktoken")
    for name in ENCODINGS:
        encode = tiktoken.get_encoding(name).encode_ordinary
        for kind, pattern in (argument.split("=", 1) for argument in arguments):
            texts = [path.read_text(errors="ignore") for path in Path().glob(pattern)]
            off = error(texts, encode)
            sys.stdout.write(f"{name:12} {kind:12} {off:+.0%}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
