"""OpenAI's chat completions, and every server that speaks their format.

Requests and answers pass through with all their fields; this adapter finds the end mark, the usage
and the errors within a stream.

Needs: `transport.py`, `sse.py` and `base.py`.
Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from .base import BrokenStreamError, Chunk, ChunkStream, JSONObject
from .sse import ServerSentEvent
from .transport import HTTPProvider

END_MARK = b"[DONE]"


@dataclass(eq=False, repr=False)
class OpenAIProvider(HTTPProvider):
    """An OpenAI-compatible server behind `base_url` (with its `/v1`).

    `renames_max_tokens` sends it as `max_completion_tokens`: OpenAI's own newer models accept only
    that, many compatible servers only the former.
    """

    name: str = "openai"
    renames_max_tokens: bool = False

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def stream(self, request: JSONObject) -> AbstractAsyncContextManager[ChunkStream]:
        """Open a streamed completion; see `Provider.stream`."""
        options = {**(request.get("stream_options") or {}), "include_usage": True}
        body = {**self._renamed(request), "stream": True, "stream_options": options}
        return self._stream("/chat/completions", body, self._decode)

    def _decode(self, event: ServerSentEvent) -> list[Chunk] | None:
        if event.data == END_MARK:
            return None
        body = self._parse(event.data)
        if body.get("error") or event.event == "error":
            raise self._answer_error(body)
        if not _is_chunk(body):
            raise BrokenStreamError(f"{self.name} sent an event that is not a chunk")
        return [Chunk(body)]

    def _renamed(self, request: JSONObject) -> JSONObject:
        if not self.renames_max_tokens or "max_tokens" not in request:
            return request
        rest = {key: value for key, value in request.items() if key != "max_tokens"}
        return {"max_completion_tokens": request["max_tokens"], **rest}

    async def complete(self, request: JSONObject) -> JSONObject:
        """Request a whole completion; see `Provider.complete`."""
        body = {**self._renamed(request), "stream": False}
        body.pop("stream_options", None)
        answer = await self._json("POST", "/chat/completions", body)
        if answer.get("error"):  # some proxies answer so under status 200
            raise self._answer_error(answer)
        return answer

    async def embed(self, request: JSONObject) -> JSONObject:
        """Request embeddings; see `Provider.embed`."""
        return await self._json("POST", "/embeddings", request)

    async def models(self) -> list[JSONObject]:
        """List the server's models; see `Provider.models`."""
        models: list[JSONObject] = (await self._json("GET", "/models")).get("data", [])
        return models


def _is_chunk(body: JSONObject) -> bool:
    """Check the parts of a chunk that are read here; the rest passes through."""
    choices = body.get("choices") or []
    return isinstance(choices, list) and all(
        isinstance(choice, dict) and isinstance(choice.get("delta") or {}, dict)
        for choice in choices
    )
