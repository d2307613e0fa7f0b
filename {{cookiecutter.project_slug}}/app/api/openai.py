"""OpenAI's API, so that its clients work against this service unchanged.

`POST /v1/chat/completions` (streamed or not), `POST /v1/embeddings`, `GET /v1/models`. Fields
this service does not know go to the provider and come back from it as they are.
Source: https://platform.openai.com/docs/api-reference
"""

from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from msgspec.json import encode
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, PositiveInt
from pydantic_core import to_json

from app.api.admission import Admission, AdmissionDep, Answer
from app.api.bodies import MAX_MESSAGES, GuardedRoute
from app.api.errors import describe, openai_error, refusals
from app.api.stream import described, while_connected
from app.llm.base import Chunk, JSONObject
from app.retrieval.base import Retrieved

router = APIRouter(
    prefix="/v1",
    tags=["openai"],
    route_class=GuardedRoute,
    responses=refusals(400, 401, 404, 408, 413, 422, 429, 500, 502, 503, 504),
)
STREAM = {
    "description": "A `chat.completion`, or its chunks as server-sent events",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


class OpenAIRequest(BaseModel):
    """A body of which only the fields that are read here are checked."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None

    def for_provider(self) -> JSONObject:
        """Return the body as it came, fields unknown here included."""
        return self.model_dump(exclude_unset=True)


class StreamOptions(BaseModel):
    """OpenAI's `stream_options`."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool | None = None


class CompletionRequest(OpenAIRequest):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[JSONObject], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_tokens: Any = None  # -1 and other values mean something to some providers
    max_completion_tokens: Any = None
    n: PositiveInt | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    retrieve: bool = Field(False, exclude=True, description="answer from the sources; not OpenAI's")


Inputs = str | list[str] | list[int] | list[list[int]]


def _inputs(value: Any) -> Inputs:  # noqa: ANN401
    """Return one text, or a list of texts, tokens or lists of tokens; ValueError if it is neither.

    Pydantic would validate a long list once for each type, and describe every item.
    """
    kinds = set(map(type, value)) if isinstance(value, list) else {type(value)}
    if kinds == {list}:
        kinds = {int, *map(type, chain.from_iterable(value))}
    if not isinstance(value, str | list) or (value and kinds not in ({str}, {int})):
        raise ValueError("Input should be a text, or a list of texts, tokens or lists of tokens")
    return value


class EmbeddingRequest(OpenAIRequest):
    """The body of `/v1/embeddings`."""

    input: Annotated[Inputs, PlainValidator(_inputs, json_schema_input_type=Inputs)]
    messages: None = None  # only a chat has them: the cost is estimated by that


class OpenAIEvents:
    """The chunks of a streamed completion as bytes, with all their fields."""

    def __init__(self, *, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._sources: JSONObject = {}

    def queued(self, _: int) -> bytes:
        """See `Events`: OpenAI's format has none."""
        return b""

    def sources(self, retrieved: Retrieved) -> bytes:
        """See `Events`: the first chunk carries them."""
        self._sources = described(retrieved)
        return b""

    def chunks(self, chunks: list[Chunk]) -> bytes:
        """See `Events`; the service always asks for usage, the client may not have."""
        sent = [
            chunk.data for chunk in chunks if self._with_usage or chunk.choices or not chunk.counts
        ]
        if sent and self._sources:
            sent[0] = b"%b,%b" % (sent[0][:-1], to_json(self._sources)[1:])
            self._sources = {}
        return b"".join(b"data: %b\n\n" % data for data in sent)

    def end(self, _: Answer) -> bytes:
        """See `Events`."""
        return b"data: [DONE]\n\n"

    def error(self, error: Exception) -> bytes:
        """See `Events`; no `[DONE]` follows."""
        return b"data: %b\n\n" % to_json(openai_error(describe(error)))


@router.post("/chat/completions", responses={200: STREAM})
async def completions(
    body: CompletionRequest, request: Request, admission: AdmissionDep
) -> Response:
    """Answer with a completion, or with its chunks as they come."""
    question, retrieve = body.for_provider(), body.retrieve
    if body.stream:
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        events = OpenAIEvents(with_usage=with_usage)
        return await admission.stream(request, question, events, retrieve=retrieve)
    call = admission.services.provider.complete
    answered = await admission.whole(request, call, question, retrieve=retrieve)
    return _response(answered, admission)


@router.post("/embeddings")
async def embeddings(body: EmbeddingRequest, request: Request, admission: AdmissionDep) -> Response:
    """Pass the provider's embeddings through."""
    call = admission.services.provider.embed
    return _response(await admission.whole(request, call, body.for_provider()), admission)


@router.get("/models")
async def models(request: Request, admission: AdmissionDep) -> dict[str, object]:
    """List the provider's models, or those that are allowed; this takes no slot and no budget."""
    async with admission.services.drain.bound():
        listed = await while_connected(request, admission.services.provider.models())
    if allowed := admission.services.settings.llm_models_allowed:
        known = {str(model.get("id")): model for model in listed}
        listed = [
            known.get(name, {"id": name, "object": "model", "created": 0}) for name in allowed
        ]
    return {"object": "list", "data": listed}


def _response(answered: JSONObject, admission: Admission) -> Response:
    return Response(encode(answered), media_type="application/json", headers=admission.headers)
