"""`POST /chat`: an answer as a stream of typed events.

`sources` {"sources", "degraded"} if it is to be made from what can be found, `queued`
{"position"} while it waits for a slot, `token` {"text"} for each piece of the answer,
`usage` {"prompt_tokens", "completion_tokens"}, and at the end `done` {"finish_reason"} or
`error` {"type", "message", "retry_after"?}, never silence.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from app.api.admission import AdmissionDep, Answer
from app.api.bodies import MAX_MESSAGES, GuardedRoute
from app.api.errors import describe, refusals
from app.api.stream import PING, EventStream, described
from app.llm.base import Chunk, JSONObject
from app.retrieval.base import Retrieved

EXAMPLE = """event: token
data: {"text":"Hello"}

event: usage
data: {"prompt_tokens":5,"completion_tokens":1}

event: done
data: {"finish_reason":"stop"}

"""
RESPONSES = {
    200: {
        "description": (
            'Server-sent events, each with a JSON object: `queued` {"position"}, `sources` '
            '{"sources": [{"title", "url", "snippet", "source"}], "degraded": [{"source", '
            '"reason"}]}, `token` {"text"}, `usage` {"prompt_tokens", "completion_tokens"}; the '
            'last is `done` {"finish_reason"} or `error` {"type", "message", "retry_after"?}.'
        ),
        "content": {"text/event-stream": {"example": EXAMPLE}},
    },
    **refusals(401, 408, 413, 422, 429, 500, 502, 503, 504),
}

router = APIRouter(tags=["chat"], route_class=GuardedRoute)


class Message(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    """A question with the conversation before it."""

    model_config = ConfigDict(extra="forbid")

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    model: str | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    retrieve: bool = False

    def for_provider(self) -> JSONObject:
        """Return the same as an OpenAI chat body."""
        return self.model_dump(exclude_none=True, exclude={"retrieve"})


class ChatEvents:
    """The events of `/chat` as bytes: encoding them once is cheaper than passing dicts on.

    An answer that begins with reasoning begins with a ping.
    """

    def __init__(self) -> None:
        self._opening = PING

    def queued(self, position: int) -> bytes:
        """See `Events`."""
        return _event(b"queued", {"position": position})

    def sources(self, retrieved: Retrieved) -> bytes:
        """See `Events`."""
        return _event(b"sources", described(retrieved))

    def chunks(self, chunks: list[Chunk]) -> bytes:
        """See `Events`."""
        tokens = b"".join(
            b'event: token\ndata: {"text":%b}\n\n' % to_json(text)
            for chunk in chunks
            if (text := chunk.text)
        )
        opening, self._opening = self._opening, b""
        return tokens or opening

    def end(self, answer: Answer) -> bytes:
        """See `Events`."""
        usage = answer.usage and {
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
        }
        done = _event(b"done", {"finish_reason": answer.finish_reason or "stop"})
        return _event(b"usage", usage) + done if usage else done

    def error(self, error: Exception) -> bytes:
        """See `Events`."""
        return _event(b"error", describe(error))


def _event(name: bytes, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, to_json(data))


@router.post("/chat", response_class=Response, responses=RESPONSES)
async def chat(question: ChatRequest, request: Request, admission: AdmissionDep) -> EventStream:
    """Stream the answer as events; a refusal before the first one has its own status.

    The headers tell the client's budgets where the answer begins at once, not with a place in the
    queue or with sources: nothing is reserved by then.
    """
    return await admission.stream(
        request, question.for_provider(), ChatEvents(), retrieve=question.retrieve
    )
