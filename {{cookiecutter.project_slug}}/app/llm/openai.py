"""OpenAI's chat completions, and every server that speaks their format.

Requests and answers pass through with all their fields. Answers are read as leniently as the
`openai` SDK does, but a failure under status 200 is an error: an error object or a flat error, a
completion without choices, a stream without content.

Needs: msgspec, `transport.py`, `sse.py` and `base.py`.
Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import ValidationError, convert
from msgspec.json import Decoder

from .answer import AnswerReader
from .base import BrokenStreamError, Chunk, JSONObject
from .failures import says_why
from .transport import HTTPProvider

decode = Decoder(Chunk).decode


@dataclass(eq=False, repr=False)
class OpenAIProvider(HTTPProvider):
    """An OpenAI-compatible server behind `base_url` (with its `/v1`).

    `renames_max_tokens` sends it as `max_completion_tokens`: OpenAI's own newer models accept only
    that, many compatible servers only the former.
    """

    name: str = "openai"
    path: str = "/chat/completions"
    renames_max_tokens: bool = False

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def _body(self, request: JSONObject, *, stream: bool) -> JSONObject:
        options = {**(request.get("stream_options") or {}), "include_usage": True}
        body = {**request, "stream": stream, "stream_options": options}
        if not stream:
            del body["stream_options"]
        if self.renames_max_tokens and "max_tokens" in body:
            limit = body.pop("max_tokens")
            body.setdefault("max_completion_tokens", limit)
        return body

    def _reader(self) -> AnswerReader:
        return _Answer(self)

    def _completion(self, body: JSONObject) -> JSONObject:
        try:
            completion = convert(body, Chunk)
        except ValidationError as error:
            raise BrokenStreamError(f"{self.name} sent a malformed completion: {error}") from error
        failure = _failure(completion)
        if failure or not completion.choices:
            raise self.answer_error({**body, **(failure or {})})
        return body

    async def embed(self, request: JSONObject) -> JSONObject:
        """Request embeddings; see `Provider.embed`."""
        body = self.parse(await self._request("POST", "/embeddings", request))
        if not body.get("data"):
            raise self.answer_error(body)
        return body


class _Answer(AnswerReader):
    """Reads one streamed answer."""

    def read(self, name: str, data: bytes) -> Sequence[Chunk] | None:  # noqa: ARG002
        """See `AnswerReader.read`."""
        chunk = self.decoded(data, _decode)
        if failure := _failure(chunk):
            raise self.source.answer_error(failure)
        if not chunk.choices and not chunk.counts:
            if says_why(data):
                raise self.source.answer_error(data)
            if chunk.choices is None:  # clients look into the list
                return ()
        return (chunk,)


def _decode(data: bytes) -> Chunk:
    chunk = decode(data)
    data.decode()  # msgspec does not look into the fields that it skips
    chunk.data = data.replace(b"\n", b" ")
    return chunk


def _failure(answer: Chunk) -> JSONObject | None:
    """Find the error object of a chunk or of a completion; some servers put it into a choice."""
    if answer.error:
        return {"error": answer.error}
    for choice in answer.choices or ():
        if choice.error:
            return {"error": choice.error}
        if choice.finish_reason == "error":
            return {"error": {"message": "the answer ended by finish_reason 'error'"}}
    return None
