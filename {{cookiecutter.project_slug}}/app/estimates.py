"""How many tokens a request may cost: by its length, or counted by a real tokenizer."""

import importlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

from app.llm.protocol import JSONObject
from app.ratelimit.estimate import estimate_text, estimate_tokens
from app.ratelimit.exact_estimate import ExactEstimator
from app.settings import Settings

Estimate = Callable[[JSONObject], Awaitable[int]]
"""Returns the most tokens that a chat or an embeddings request may cost."""


async def open_estimate(settings: Settings, stack: AsyncExitStack) -> Estimate:
    """Choose by TIKTOKEN_ENCODING; a tokenizer is loaded and run in threads of its own."""
    if settings.tiktoken_encoding is None:
        return estimate_by_length
    tiktoken = importlib.import_module("tiktoken")  # an optional extra
    load = partial(tiktoken.get_encoding, settings.tiktoken_encoding)
    return counting_with(await stack.enter_async_context(ExactEstimator(load)))


async def check_estimate(settings: Settings) -> None:
    """Load the tokenizer before processes that serve are started; ValueError if it cannot be."""
    try:
        async with AsyncExitStack() as stack:
            await open_estimate(settings, stack)
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"TIKTOKEN_ENCODING={settings.tiktoken_encoding}: {reason}") from error


async def estimate_by_length(request: JSONObject) -> int:
    """Guess from the lengths of the texts; takes microseconds."""
    if "messages" in request:
        return estimate_tokens(request, default_max_tokens=0)
    texts = request.get("input")
    return sum(map(_estimate_input, texts)) if isinstance(texts, list) else _estimate_input(texts)


def counting_with(estimator: ExactEstimator) -> Estimate:
    """Count chat requests with a tokenizer; embeddings, which have no output, by their length."""

    async def count(request: JSONObject) -> int:
        if "messages" not in request:
            return await estimate_by_length(request)
        return await estimator.estimate_tokens(request, default_max_tokens=0)

    return count


def _estimate_input(text: object) -> int:
    """Estimate one input: a text, a list of tokens, or one token of a list."""
    if isinstance(text, str):
        return estimate_text(text)
    return len(text) if isinstance(text, list) else 1
