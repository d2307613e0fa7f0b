"""What the service asks of an LLM provider, and the errors it can answer with.

The lingua franca is OpenAI's chat completion format: a request is its JSON body,
an answer is a stream of its chunks. Every field a client sends reaches the
provider, also those that nobody here has heard of, and every field of a chunk
reaches the client. Adapters for other wire formats translate to and from it.

Needs: `app.errors`. The errors form one tree:

    ProviderError
    ├── ProviderAuthenticationError   the provider refused the service's own key
    ├── ProviderRateLimitedError      429: the account's tier is used up
    ├── ProviderOverloadedError       503, 529: the provider has no capacity
    ├── ProviderTimeoutError          too slow: connect, first_token, idle or total
    ├── ProviderRejectedError         4xx: this request will never succeed
    ├── ProviderUnavailableError      unreachable, or a 5xx of its own making
    └── BrokenStreamError             an answer that makes no sense or stops half-way

Source of the format: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from app.errors import ServiceError

JSONObject = dict[str, Any]

MOST_TOKENS = 10**9
"""No answer costs more: a higher count is a provider's mistake."""


class ProviderError(ServiceError):
    """A provider call failed.

    `message` says what happened, `said` what the provider said of it: that may name the operator's
    account, so it is not public. `status` is that of its response, None without one; `code` and
    `param` are its own.
    """

    type = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        said: str = "",
        retry_after: float | None = None,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(f"{message}: {said}" if said else message, retry_after=retry_after)
        self.message = message
        self.said = said
        self.status = status
        self.code = code
        self.param = param
        if not isinstance(self, ProviderRejectedError):
            self.public_message = message


class ProviderAuthenticationError(ProviderError):
    """The provider refused the service's credentials: an operator must act."""

    type = "provider_authentication"


class ProviderRateLimitedError(ProviderError):
    """The provider answered 429: the account is over its rate."""

    type = "provider_rate_limited"


class ProviderOverloadedError(ProviderError):
    """The provider has no capacity at the moment (503, Anthropic's 529)."""

    type = "provider_overloaded"


class ProviderTimeoutError(ProviderError):
    """The provider was too slow; `stage` is connect, first_token, idle or total."""

    type = "provider_timeout"

    def __init__(self, message: str, *, stage: str) -> None:
        super().__init__(message)
        self.stage = stage


class ProviderRejectedError(ProviderError):
    """The provider called the request itself bad; trying again changes nothing."""

    type = "invalid_request"


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or failed on its side (5xx)."""

    type = "provider_unavailable"


class BrokenStreamError(ProviderError):
    """The answer was not in the provider's format, or ended before its end mark."""

    type = "provider_broken_stream"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one answer cost."""

    prompt_tokens: int
    completion_tokens: int


class Chunk:
    """One `chat.completion.chunk`; the properties read its first choice."""

    __slots__ = ("_choice", "body")

    def __init__(self, body: JSONObject) -> None:
        self.body = body
        choices = body.get("choices")
        self._choice: JSONObject = choices[0] if choices else {}

    @property
    def text(self) -> str:
        """The text this chunk adds to the answer; a refusal is text too.

        Content in parts, as some models that reason send it, is its parts of type "text"; content
        that is neither text nor parts adds none.
        """
        delta = self._choice.get("delta") or {}
        return _text(delta.get("content")) or _text(delta.get("refusal"))

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended, in the chunk that ends it."""
        reason = self._choice.get("finish_reason")
        return reason if isinstance(reason, str) else None

    @property
    def usage(self) -> Usage | None:
        """What the whole answer cost, in the chunk that says so."""
        return usage_of(self.body)

    @property
    def has_content(self) -> bool:
        """Whether this chunk says anything: the role alone does not."""
        choices = self.body.get("choices") or ()
        return any(map(_says_something, choices)) or bool(self.body.get("usage"))


def _text(said: object) -> str:
    if isinstance(said, list):
        parts = [part for part in said if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(text for part in parts if isinstance(text := part.get("text"), str))
    return said if isinstance(said, str) else ""


def _says_something(choice: Mapping[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(choice.get("finish_reason")) or any(
        value for key, value in delta.items() if key != "role"
    )


def usage_of(body: Mapping[str, Any]) -> Usage | None:
    """Read the `usage` object of a chunk, a completion or an embedding.

    A part that is left out is 0. None, unknown, where nothing is told or it makes no sense.
    """
    usage = body.get("usage")
    if not usage or not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(prompt or 0, completion or 0) if are_counts(prompt, completion) else None


def are_counts(*counts: object) -> bool:
    """Whether these can be numbers of tokens: integers from 0 to MOST_TOKENS, or left out."""
    return all(
        count is None or (type(count) is int and 0 <= count <= MOST_TOKENS) for count in counts
    )


ChunkStream = AsyncIterator[list[Chunk]]
"""The chunks of an answer, as many at a time as one network read brought."""


class Provider(Protocol):
    """A source of answers.

    Every method raises only ProviderError and its subclasses, and passes
    cancellation on at once: the provider's request is closed, not abandoned.
    """

    name: str

    def stream(self, request: JSONObject) -> AbstractAsyncContextManager[ChunkStream]:
        """Open the answer to an OpenAI chat body as a stream of chunks.

        Leaving the context closes the provider's request, finished or not. The
        stream raises BrokenStreamError where the provider's end mark is missing,
        so that running to its end means a whole answer. Usage is always asked for.
        """
        ...

    async def complete(self, request: JSONObject) -> JSONObject:
        """Answer an OpenAI chat body with one whole `chat.completion`."""
        ...

    async def embed(self, request: JSONObject) -> JSONObject:
        """Answer an OpenAI embeddings body."""
        ...

    async def models(self) -> list[JSONObject]:
        """List the models on offer, as OpenAI's `model` objects."""
        ...
