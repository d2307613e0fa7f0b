"""Token estimates by a real tokenizer, off the event loop.

Guarantees: encoding (about 1 ms for 10,000 characters) and the loading of the vocabulary
happen in threads of this module's own, at most `threads` at once; a caller that is
cancelled leaves at once, and its count is dropped.

`tiktoken` is the optional extra for this (its vocabulary is downloaded on first use, or read
from `TIKTOKEN_CACHE_DIR`); any tokenizer with `encode_ordinary` will do.

    async with ExactEstimator(partial(tiktoken.get_encoding, "o200k_base")) as estimator:
        tokens = await estimator.estimate_tokens(request, default_max_tokens=1024)

Needs: `estimate`, and the tokenizer.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from .estimate import estimate_tokens


class Tokenizer(Protocol):
    """What is needed of a tokenizer; it must be safe to use from several threads."""

    def encode_ordinary(self, text: str, /) -> list[int]:
        """Return the tokens of a text, special tokens read as plain text."""
        ...


class ExactEstimator:
    """Counts with the tokenizer that `load` returns; `load` may block. Open it with `async with`.

    Opening fails as `load` does, as when a vocabulary cannot be had.
    """

    def __init__(self, load: Callable[[], Tokenizer], *, threads: int = 2) -> None:
        self._load = load
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tokenizer")
        self._tokenizer: Tokenizer | None = None

    async def __aenter__(self) -> Self:
        try:
            self._tokenizer = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._load
            )
        except BaseException:
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Not waiting: a count still under way ends within milliseconds, and nobody wants it.
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def estimate_tokens(self, request: Mapping[str, Any], *, default_max_tokens: int) -> int:
        """Return the most tokens that a chat request in OpenAI's format may cost."""
        count = partial(
            estimate_tokens, request, default_max_tokens=default_max_tokens, count=self._count
        )
        return await asyncio.get_running_loop().run_in_executor(self._pool, count)

    def _count(self, text: str) -> int:
        if self._tokenizer is None:
            raise RuntimeError("the estimator is not open: use it in an `async with`")
        return len(self._tokenizer.encode_ordinary(text))
