"""OpenAI's chat completions, and every server that speaks their format.

Requests and answers pass through with all their fields; this adapter finds the
end mark, the usage and errors that arrive in mid-stream.

Needs: `transport.py` with what it needs, `sse.py` and `base.py` beside it.
Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import takewhile
from typing import Any

import httpx

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
from .transport import STATUS_ERRORS, OnHeaders, ProviderEndpoint, read_to_end

END_MARK = b"[DONE]"

# By `code` or by `type`; many compatible servers give the status that it would have had.
ERRORS_IN_STREAM: dict[str, type[ProviderError]] = {
    **{str(status): kind for status, kind in STATUS_ERRORS.items()},
    "400": ProviderRejectedError,
    "invalid_api_key": ProviderAuthenticationError,
    "rate_limit_exceeded": ProviderRateLimitedError,
    "rate_limit_error": ProviderRateLimitedError,
    "insufficient_quota": ProviderRateLimitedError,
    "overloaded_error": ProviderOverloadedError,
    "invalid_request_error": ProviderRejectedError,
    "context_length_exceeded": ProviderRejectedError,
}


class OpenAIProvider:
    """An OpenAI-compatible server behind `base_url` (with its `/v1`).

    `api_key` may be empty for a local server that asks for none. `on_headers` is called with
    the headers of each response: they tell how the account's rate limits stand.
    `renames_max_tokens` sends it as `max_completion_tokens`: OpenAI's own newer models take only
    that, many compatible servers only the former.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        base_url: str,
        api_key: str = "",
        name: str = "openai",
        on_headers: OnHeaders | None = None,
        renames_max_tokens: bool = False,
    ) -> None:
        self.name = name
        self._renames_max_tokens = renames_max_tokens
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._endpoint = ProviderEndpoint(
            client, name=name, base_url=base_url, headers=headers, on_headers=on_headers
        )

    @asynccontextmanager
    async def stream(self, request: JSONObject) -> AsyncIterator[ChunkStream]:
        """Open a streamed completion; see `Provider.stream`."""
        options = {**(request.get("stream_options") or {}), "include_usage": True}
        body = {**self._named_as_asked(request), "stream": True, "stream_options": options}
        async with (
            self._endpoint.events("/chat/completions", body) as events,
            aclosing(self._chunks(events)) as chunks,
        ):
            yield chunks

    async def _chunks(
        self, events: AsyncIterator[list[ServerSentEvent]]
    ) -> AsyncGenerator[list[Chunk]]:
        """Pass on what came before a failure in the same read, then raise it."""
        async for batch in events:
            said = list(takewhile(lambda event: event.data != END_MARK, batch))
            chunks: list[Chunk] = []
            try:
                for event in said:
                    chunks.append(self._chunk(event))  # noqa: PERF401
            except ProviderError:
                yield chunks
                raise
            yield chunks
            if len(said) < len(batch):
                await read_to_end(events)
                return
        raise BrokenStreamError(f"{self.name} ended the answer without its end mark")

    def _chunk(self, event: ServerSentEvent) -> Chunk:
        body = self._endpoint.parse(event.data)
        if body.get("error") or event.event == "error":
            raise self._error(body.get("error") or body)
        if not _is_chunk(body):
            raise BrokenStreamError(f"{self.name} sent an event that is not a chunk")
        return Chunk(body)

    def _error(self, error: object) -> ProviderError:
        details: Mapping[str, Any] = error if isinstance(error, dict) else {"message": str(error)}
        names = (str(details.get("code")), str(details.get("type")))
        known = (ERRORS_IN_STREAM[name] for name in names if name in ERRORS_IN_STREAM)
        kind = next(known, ProviderUnavailableError)
        return self._endpoint.error(kind, "failed to answer", details)

    def _named_as_asked(self, request: JSONObject) -> JSONObject:
        if not self._renames_max_tokens or "max_tokens" not in request:
            return request
        rest = {key: value for key, value in request.items() if key != "max_tokens"}
        return {"max_completion_tokens": request["max_tokens"], **rest}

    async def complete(self, request: JSONObject) -> JSONObject:
        """Ask for a whole completion; see `Provider.complete`."""
        body = {**self._named_as_asked(request), "stream": False}
        body.pop("stream_options", None)
        answer = await self._endpoint.json("POST", "/chat/completions", body)
        if answer.get("error"):  # some proxies say so under status 200
            raise self._error(answer["error"])
        return answer

    async def embed(self, request: JSONObject) -> JSONObject:
        """Ask for embeddings; see `Provider.embed`."""
        return await self._endpoint.json("POST", "/embeddings", request)

    async def models(self) -> list[JSONObject]:
        """List the server's models; see `Provider.models`."""
        models: list[JSONObject] = (await self._endpoint.json("GET", "/models")).get("data", [])
        return models


def _is_chunk(body: JSONObject) -> bool:
    """Check the parts of a chunk that are read here: the rest is the client's."""
    choices = body.get("choices") or []
    return (
        isinstance(choices, list)
        and all(isinstance(choice, dict) for choice in choices)
        and all(isinstance(choice.get("delta") or {}, dict) for choice in choices)
    )
