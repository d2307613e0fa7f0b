"""OpenAI's API, so that its clients work against this service unchanged.

`POST /v1/chat/completions` (streamed or not), `POST /v1/embeddings`, `GET /v1/models`. Fields
this service does not know go to the provider and come back from it as they are.
Source: https://platform.openai.com/docs/api-reference
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, PositiveInt
from pydantic_core import to_json

from app.api.admission import Admission, AdmissionDep
from app.api.guarded_route import MAX_MESSAGES, GuardedRoute
from app.api.responses import plain_response, stream_response
from app.llm.base import Chunk, JSONObject
from app.streaming import openai_events

router = APIRouter(prefix="/v1", tags=["openai"], route_class=GuardedRoute)


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
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    n: PositiveInt | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


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
    messages: None = None  # whoever meters a call tells a chat by them


@router.post("/chat/completions")
async def completions(
    body: CompletionRequest, request: Request, admission: AdmissionDep
) -> Response:
    """Answer with a completion, or with its chunks as they come."""
    if not body.stream:
        return await _whole(admission.services.provider.complete, body, request, admission)
    with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    return await stream_response(
        _events(body.for_provider(), admission, with_usage=with_usage),
        encode_error=openai_events.error,
        request=request,
        admission=admission,
    )


@router.post("/embeddings")
async def embeddings(body: EmbeddingRequest, request: Request, admission: AdmissionDep) -> Response:
    """Pass the provider's embeddings through."""
    return await _whole(admission.services.provider.embed, body, request, admission)


@router.get("/models")
async def models(request: Request, admission: AdmissionDep) -> dict[str, object]:
    """List the models of the provider that is asked first."""

    async def ask() -> list[JSONObject]:
        await admission.acquire().wait()
        return await admission.services.provider.models()

    return {
        "object": "list",
        "data": await plain_response(ask(), request=request, admission=admission),
    }


async def _whole(
    call: Callable[[JSONObject], Awaitable[JSONObject]],
    body: OpenAIRequest,
    request: Request,
    admission: Admission,
) -> Response:
    async def answer() -> JSONObject:
        await admission.acquire().wait()
        return await admission.call(call, body.for_provider())

    answered = await plain_response(answer(), request=request, admission=admission)
    await admission.release()
    return Response(to_json(answered), media_type="application/json", headers=admission.headers)


async def _events(
    body: JSONObject, admission: Admission, *, with_usage: bool
) -> AsyncGenerator[bytes]:
    await admission.acquire().wait()
    async for chunks in await admission.open(body):
        admission.meter.watch(chunks)
        events = b"".join(
            openai_events.chunk(chunk) for chunk in chunks if with_usage or not _only_usage(chunk)
        )
        if events:
            yield events
    await admission.release()
    yield openai_events.DONE


def _only_usage(chunk: Chunk) -> bool:
    """Tell the chunk that is there because this service, not the client, asked for usage."""
    return not chunk.body.get("choices") and bool(chunk.body.get("usage"))
