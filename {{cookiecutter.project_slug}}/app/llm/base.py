"""The protocol of an LLM provider, and the errors it can raise.

The common format is OpenAI's: a request is the JSON body of a chat completion, an answer is a
stream of its chunks. Fields that are unknown here pass through in both directions. Adapters for
other wire formats translate to and from it.

Needs: msgspec and `app.errors`.
Source of the format: https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, Self, TypeVar

from msgspec import Meta, Struct, ValidationError, convert, field
from msgspec.json import encode

from app.errors import ServiceError

JSONObject = dict[str, Any]
T = TypeVar("T")

MAX_TOKENS = 10**9
"""No answer costs more: a higher count is a provider's mistake."""
Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class ProviderError(ServiceError):
    """A provider call failed.

    `message` says what happened; `detail` is the provider's own text, which may name the operator's
    account and is not shown to clients unless `shows_detail`. `status`, `code` and `param` are
    those of the provider's response. `retry_after` is the number of seconds to wait;
    `has_retry_after` is true if a Retry-After says so, not the reset of a rate limit.
    """

    type = "provider_error"
    shows_detail = False
    status: int | None = None

    def __init__(
        self,
        message: str,
        *,
        detail: str = "",
        retry_after: float | None = None,
        has_retry_after: bool = False,
        code: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(f"{message}: {detail}" if detail else message, retry_after=retry_after)
        self.public_message = str(self) if self.shows_detail else message
        self.has_retry_after = has_retry_after
        self.code = code
        self.param = param


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
    """The provider rejected the request itself (4xx): trying again changes nothing."""

    type = "invalid_request"
    shows_detail = True  # it is about the client's own request


class ProviderUnavailableError(ProviderError):
    """The provider could not be reached, or failed on its side (5xx)."""

    type = "provider_unavailable"


class BrokenStreamError(ProviderError):
    """The answer was not in the provider's format, or ended before its end mark."""

    type = "provider_broken_stream"


def without_nulls(body: Mapping[str, Any]) -> JSONObject:
    """Leave out the fields that are null, as many servers send those that they do not know."""
    return {name: value for name, value in body.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that one answer cost."""

    prompt_tokens: int
    completion_tokens: int


def read_counts(usage: object, kind: type[T]) -> T | None:
    """Read token counts; None, unknown, where there are none, or one makes no sense."""
    if not usage or not isinstance(usage, dict):
        return None
    try:
        return convert(without_nulls(usage), kind)
    except ValidationError:
        return None


class _Counts(Struct):
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    total_tokens: Count = 0


def usage_of(body: Mapping[str, Any]) -> Usage | None:
    """Read the `usage` object of a completion or an embedding.

    A missing count is 0; None as `read_counts`. What only the total has is reasoning that some
    providers count apart.
    """
    counts = read_counts(body.get("usage"), _Counts)
    if counts is None:
        return None
    completion = max(counts.completion_tokens, counts.total_tokens - counts.prompt_tokens)
    return Usage(counts.prompt_tokens, completion)


class Delta(Struct, gc=False):
    """What a chunk adds to a message. Clients read fields of any type, so any is accepted."""

    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    tool_calls: Any = None
    function_call: Any = None
    thinking_blocks: Any = None
    images: Any = None
    audio: Any = None

    @property
    def has_content(self) -> bool:
        """Whether there is more than the role."""
        return any(getattr(self, field) for field in self.__struct_fields__)


class Choice(Struct, gc=False):
    """One of the `choices` of a chunk."""

    delta: Delta | None = None
    finish_reason: Any = None
    error: Any = None


NOTHING = Delta()


class Chunk(Struct, gc=False):
    """One `chat.completion.chunk`; the properties read its first choice.

    `data` is the JSON of the whole chunk in one line, with the fields that are unknown here.
    """

    choices: list[Choice] | None = None
    counts: Any = field(default=None, name="usage")
    error: Any = None
    data: bytes = field(default=b"", name="(data)")

    @classmethod
    def of(cls, body: JSONObject) -> Self:
        """Make a chunk of its JSON object; ValueError if it is none, or no Unicode."""
        chunk = convert(body, cls)
        chunk.data = encode(body)
        return chunk

    @property
    def delta(self) -> Delta:
        """What this chunk adds to the message."""
        return (self.choices and self.choices[0].delta) or NOTHING

    @property
    def text(self) -> str:
        """The text that this chunk adds to the answer, a refusal included.

        Content may be a list of parts, as some reasoning models send it: only parts of type "text"
        are text.
        """
        delta = self.delta
        return _text(delta.content) or _text(delta.refusal)

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended, in the chunk that ends it."""
        reason = self.choices[0].finish_reason if self.choices else None
        return reason if isinstance(reason, str) else None

    @property
    def usage(self) -> Usage | None:
        """What the whole answer cost, in the chunk that carries it."""
        return usage_of({"usage": self.counts}) if self.counts else None

    @property
    def has_content(self) -> bool:
        """Whether this chunk says something, or why the answer ended."""
        return any(
            choice.finish_reason or (choice.delta and choice.delta.has_content)
            for choice in self.choices or ()
        )


def _text(content: object) -> str:
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(text for part in parts if isinstance(text := part.get("text"), str))
    return content if isinstance(content, str) else ""


ChunkStream = AsyncIterator[list[Chunk]]
"""The chunks of an answer, as many at a time as one network read brought."""


class Provider(Protocol):
    """A source of answers.

    Every method raises only ProviderError and its subclasses. On cancellation the provider's
    request is closed at once.
    """

    name: str

    def stream(self, request: JSONObject) -> AbstractAsyncContextManager[ChunkStream]:
        """Open the answer to an OpenAI chat body as a stream of chunks.

        Leaving the context closes the provider's request, finished or not. The stream raises
        BrokenStreamError where the provider's end mark is missing. Usage is always requested.
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
