"""Anthropic's Messages API behind the provider protocol.

Requests and answers are translated from and to OpenAI's format (`anthropic_request.py`,
`anthropic_answer.py`); this adapter finds the end mark and the errors.

Needs: `anthropic_request.py`, `anthropic_answer.py`, `transport.py` with what they need, `sse.py`
and `base.py` beside it.
Source: https://platform.claude.com/docs/en/api/messages
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from time import time

import httpx

from .anthropic_answer import ChunkTranslator, completion
from .anthropic_request import messages_request
from .base import (
    BrokenStreamError,
    Chunk,
    ChunkStream,
    JSONObject,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from .sse import ServerSentEvent
from .transport import OnHeaders, ProviderEndpoint, read_to_end

# The later 2026-10-21 refuses `temperature` and `top_p` for older models too, and adds nothing.
API_VERSION = "2023-06-01"
# Thinking counts too, and newer models think by default. It is a ceiling, not a spend.
DEFAULT_MAX_TOKENS = 16_384
MOST_MODELS = 1000  # the longest page that Anthropic gives

ERROR_KINDS: Mapping[str, type[ProviderError]] = {
    "authentication_error": ProviderAuthenticationError,
    "permission_error": ProviderAuthenticationError,
    "billing_error": ProviderRateLimitedError,
    "rate_limit_error": ProviderRateLimitedError,
    "overloaded_error": ProviderOverloadedError,
    "invalid_request_error": ProviderRejectedError,
    "not_found_error": ProviderRejectedError,
    "request_too_large": ProviderRejectedError,
}
# An account without money is told so as "invalid_request_error" (400), and by words alone.
OUT_OF_CREDIT = (
    "Your credit balance is too low",
    "You have reached your specified API usage limits",
)
MALFORMED = (AttributeError, KeyError, TypeError, ValueError)


class AnthropicProvider:
    """Anthropic, or a server that speaks its format, behind `base_url` (with `/v1` or without).

    `api_key` may be empty for a server that asks for none. `default_max_tokens` is the limit
    of an answer whose request sets none, since Anthropic asks for one.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        base_url: str = "https://api.anthropic.com",
        api_key: str = "",
        default_max_tokens: int = DEFAULT_MAX_TOKENS,
        name: str = "anthropic",
        on_headers: OnHeaders | None = None,
    ) -> None:
        self.name = name
        self._default_max_tokens = default_max_tokens
        headers = {"anthropic-version": API_VERSION, **({"x-api-key": api_key} if api_key else {})}
        self._endpoint = ProviderEndpoint(
            client,
            name=name,
            base_url=base_url.rstrip("/").removesuffix("/v1"),
            on_headers=on_headers,
            headers=headers,
            kind_of_error=kind_of_error,
        )

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open a streamed message; see `Provider.stream`."""
        body = self._body(request, stream=True)
        async with (
            self._endpoint.events("/v1/messages", body) as events,
            aclosing(self._chunks(events)) as chunks,
        ):
            yield chunks

    async def _chunks(
        self, events: AsyncIterator[list[ServerSentEvent]]
    ) -> AsyncGenerator[list[Chunk]]:
        """Translate batch by batch; one that says nothing is a sign of life and passed on too."""
        translator = ChunkTranslator(created=int(time()))
        async for batch in events:
            yield self._translated(translator, batch)
            if translator.ended:
                await read_to_end(events)
                return
        raise BrokenStreamError(f"{self.name} ended the answer without its end mark")

    def _translated(self, translator: ChunkTranslator, batch: list[ServerSentEvent]) -> list[Chunk]:
        chunks = []
        for event in batch:
            body = self._endpoint.parse(event.data)
            if event.event == "error" or body.get("type") == "error":
                raise self._error_in_stream(body)
            try:
                chunk = translator.chunk(body)
            except MALFORMED as error:
                raise self._senseless("an event") from error
            if chunk is not None:
                chunks.append(chunk)
            if translator.ended:
                break
        return chunks

    def _error_in_stream(self, body: JSONObject) -> ProviderError:
        error = body.get("error")
        details = error if isinstance(error, dict) else {"message": str(error or body)}
        kind = kind_of_error(details) or ProviderUnavailableError
        return self._endpoint.error(kind, "failed in the middle of the answer", details)

    async def complete(self, request: JSONObject) -> JSONObject:
        """Ask for a whole message; see `Provider.complete`."""
        body = self._body(request, stream=False)
        message = await self._endpoint.json("POST", "/v1/messages", body)
        try:
            return completion(message, created=int(time()))
        except MALFORMED as error:
            raise self._senseless("a message") from error

    async def embed(self, request: JSONObject) -> JSONObject:  # noqa: ARG002
        """Refuse: Anthropic embeds nothing."""
        raise ProviderRejectedError(f"{self.name} has no embeddings endpoint: use another provider")

    async def models(self) -> list[JSONObject]:
        """List the models; see `Provider.models`."""
        page = await self._endpoint.json("GET", f"/v1/models?limit={MOST_MODELS}")
        try:
            return [_model(model) for model in page["data"]]
        except MALFORMED as error:
            raise self._senseless("a list of models") from error

    def _body(self, request: JSONObject, *, stream: bool) -> JSONObject:
        body = messages_request(request, default_max_tokens=self._default_max_tokens)
        body["stream"] = stream
        return body

    def _senseless(self, what: str) -> BrokenStreamError:
        return BrokenStreamError(f"{self.name} sent {what} that is not in Anthropic's format")


def kind_of_error(details: Mapping[str, object]) -> type[ProviderError] | None:
    """Name the error that Anthropic describes; None where its words say nothing special."""
    if str(details.get("message")).startswith(OUT_OF_CREDIT):
        return ProviderRateLimitedError
    return ERROR_KINDS.get(str(details.get("type")))


def _model(model: JSONObject) -> JSONObject:
    created = int(datetime.fromisoformat(model["created_at"]).timestamp())
    return {"id": model["id"], "object": "model", "created": created, "owned_by": "anthropic"}
