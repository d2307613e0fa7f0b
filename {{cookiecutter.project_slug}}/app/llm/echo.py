"""A provider without a provider: it repeats the question, or sends the text that it is given.

In-process, deterministic, without a key or a network: for the first run, for tests and load tests.
One token is one word with the space before it.

Needs: `base.py`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice

from .base import Chunk, ChunkStream, JSONObject, ProviderRejectedError

MAX_TEXT = 100_000
"""Characters of a message that are read: some milliseconds of the event loop."""


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
        role = {"role": "assistant"}
        for token in tokens:
            await asyncio.sleep(self.token_interval if not role else self.first_token_delay)
            yield [
                Chunk.of({**head, **_choice("delta", {**role, "content": token}), "usage": None})
            ]
            role = {}
        end = Chunk.of({**head, **_choice("delta", {}, finish_reason), "usage": None})
        yield [end, Chunk.of({**head, "choices": [], "usage": _usage(request, len(tokens))})]

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

    async def embed(self, request: JSONObject) -> JSONObject:  # noqa: ARG002
        """Refuse: repeating has no vectors."""
        raise ProviderRejectedError("echo has no embeddings: use another provider")

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
    texts = [_text(m.get("content")) for m in request["messages"] if m.get("role") == "user"]
    return texts[-1] if texts else ""


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
