"""A provider without a provider: it repeats the question, or sends the text that it is given.

In-process, deterministic, without a key or a network: for the first run, for tests and load tests.
One token is one word with the space before it.

Needs: `base.py`.
"""

import asyncio
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice

from .base import Chunk, ChunkStream, JSONObject, ProviderRejectedError

MAX_TEXT = 100_000
"""Characters of a message that are read, and of the inputs of an embeddings request: some
milliseconds of the event loop."""
MAX_INPUTS = 1000
"""Texts in one embeddings request."""
EMBEDDING_DIMENSIONS = 256


@dataclass(kw_only=True)
class EchoProvider:
    """Answer with the last user message, or with what `answer` returns for all messages, if any.

    `first_token_delay` and `token_interval` are seconds; `token_count` fixes the length of every
    answer by repeating or cutting the message, None leaves it.
    """

    name = "echo"
    first_token_delay: float = 0.3
    token_interval: float = 0.03
    token_count: int | None = None
    answer: Callable[[Sequence[JSONObject]], str | None] = lambda _: None

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open the answer; see `Provider.stream`."""
        async with aclosing(self._chunks(request)) as chunks:
            yield chunks

    async def _chunks(self, request: JSONObject) -> AsyncGenerator[list[Chunk]]:
        tokens, finish_reason = self._answer(request)
        head = _head(request, "chat.completion.chunk")
        delta = {"role": "assistant", "content": tokens[0]}
        await asyncio.sleep(self.first_token_delay)
        yield [Chunk({**head, **_choice("delta", delta), "usage": None})]
        for token in tokens[1:]:
            await asyncio.sleep(self.token_interval)
            yield [Chunk({**head, **_choice("delta", {"content": token}), "usage": None})]
        end = {**head, **_choice("delta", {}, finish_reason), "usage": None}
        yield [Chunk(end), Chunk({**head, "choices": [], "usage": _usage(request, len(tokens))})]

    async def complete(self, request: JSONObject) -> JSONObject:
        """Answer in one piece after as long as the stream would take."""
        tokens, finish_reason = self._answer(request)
        await asyncio.sleep(self.first_token_delay + self.token_interval * (len(tokens) - 1))
        message = {"role": "assistant", "content": "".join(tokens), "refusal": None}
        return {
            **_head(request, "chat.completion"),
            **_choice("message", message, finish_reason),
            "usage": _usage(request, len(tokens)),
        }

    async def embed(self, request: JSONObject) -> JSONObject:
        """Embed by hashing words: texts are similar if they share words, whatever they mean."""
        inputs = request["input"]
        if isinstance(inputs, str) or (inputs and isinstance(inputs[0], int)):
            inputs = [inputs]
        if not 1 <= len(inputs) <= MAX_INPUTS or sum(map(len, inputs)) > MAX_TEXT:
            limits = f"1 to {MAX_INPUTS} texts, together at most {MAX_TEXT} characters or tokens"
            raise ProviderRejectedError(f"echo embeds {limits}", param="input")
        texts = [text if isinstance(text, str) else " ".join(map(str, text)) for text in inputs]
        data = [
            {"object": "embedding", "index": index, "embedding": _hashed_words(text)}
            for index, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        model = request.get("model") or self.name
        return {"object": "list", "data": data, "model": model, "usage": usage}

    async def models(self) -> list[JSONObject]:
        """List the one model there is."""
        return [{"id": self.name, "object": "model", "created": 0, "owned_by": "this service"}]

    def _answer(self, request: JSONObject) -> tuple[list[str], str]:
        """Return the tokens of the answer and its finish reason."""
        answer = self.answer(request["messages"])
        text = _last_user_text(request) if answer is None else answer
        # Without rstrip() the pattern would look for the word after each of the last blanks.
        tokens = re.findall(r"\s*\S+", text.rstrip()) or ["…"]
        if self.token_count is not None:
            tokens = [token if token[0].isspace() else f" {token}" for token in tokens]
            tokens = list(islice(cycle(tokens), self.token_count))
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        if isinstance(limit, int) and 0 < limit < len(tokens):
            return tokens[:limit], "length"
        return tokens, "stop"


def _last_user_text(request: JSONObject) -> str:
    for message in reversed(request["messages"]):
        if message.get("role") == "user":
            return _text(message.get("content"))
    return ""


def _text(content: object) -> str:
    """Read text content, or the text parts of a list, up to a bound."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        content = " ".join(part for part in parts if isinstance(part, str))
    return content[:MAX_TEXT] if isinstance(content, str) else ""


def _head(request: JSONObject, kind: str) -> JSONObject:
    """Return what all chunks share; the id is derived from the question."""
    seed = _last_user_text(request).encode("utf-8", "surrogatepass")
    identity = blake2b(seed, digest_size=12).hexdigest()
    model = request.get("model") or EchoProvider.name
    return {"id": f"chatcmpl-{identity}", "object": kind, "created": 0, "model": model}


def _choice(key: str, content: JSONObject, finish_reason: str | None = None) -> JSONObject:
    choice = {"index": 0, key: content, "logprobs": None, "finish_reason": finish_reason}
    return {"choices": [choice]}


def _usage(request: JSONObject, completion_tokens: int) -> JSONObject:
    texts = [_text(message.get("content")) for message in request["messages"]]
    prompt_tokens = sum(len(text.split()) for text in texts)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _hashed_words(text: str) -> list[float]:
    """Count words in a vector of length one, at places given by their hashes."""
    vector = [0.0] * EMBEDDING_DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        digest = blake2b(word.encode(), digest_size=8).digest()
        place = int.from_bytes(digest[:4], "big") % EMBEDDING_DIMENSIONS
        vector[place] += 1.0 if digest[4] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]
