"""`POST /chat`: an answer as a stream of typed events.

`sources` {"sources", "degraded"} if it is to be made from what can be found, `queued`
{"position"} while it waits for a slot, `token` {"text"} for each piece of the answer,
`usage` {"prompt_tokens", "completion_tokens"}, and at the end `done` {"finish_reason"} or
`error` {"type", "message", "retry_after"?}, never silence.
"""

from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from app.api.admission import Admission, AdmissionDep
from app.api.guarded_route import MAX_MESSAGES, GuardedRoute
from app.api.responses import EventStream, stream_response
from app.llm.base import JSONObject
from app.retrieval.prompt import cite, question_of
from app.streaming import chat_events

POSITION_INTERVAL = 1.0
"""Seconds between two looks at the queue: each step of it would be news for everybody in it."""

router = APIRouter(tags=["chat"], route_class=GuardedRoute)


class Message(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    """A question with what was said before it."""

    model_config = ConfigDict(extra="forbid")

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    model: str | None = None
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2)] = None
    retrieve: bool = False

    def for_provider(self) -> JSONObject:
        """Return the same as an OpenAI chat body."""
        return self.model_dump(exclude_none=True, exclude={"retrieve"})


@router.post("/chat")
async def chat(question: ChatRequest, request: Request, admission: AdmissionDep) -> EventStream:
    """Stream the answer as events; a refusal before the first one has its own status.

    The client's budgets are told where the answer begins at once, not with a place in the queue
    or with sources: nothing is reserved by then.
    """
    return await stream_response(
        _events(question.for_provider(), admission, retrieve=question.retrieve),
        encode_error=chat_events.error,
        request=request,
        admission=admission,
    )


async def _events(
    question: JSONObject, admission: Admission, *, retrieve: bool
) -> AsyncGenerator[bytes]:
    if retrieve:
        retrieved = await admission.retrieve(question_of(question["messages"]))
        yield chat_events.sources(retrieved)
        question = {**question, "messages": cite(question["messages"], retrieved.found)}
    async for position in _positions(admission):
        yield chat_events.queued(position)
    async for chunks in await admission.open(question):
        admission.meter.watch(chunks)
        tokens = b"".join(chat_events.token(chunk.text) for chunk in chunks if chunk.text)
        if tokens:
            yield tokens
    await admission.release()
    usage = admission.meter.usage
    done = chat_events.done(admission.meter.finish_reason)
    yield (chat_events.usage(usage) if usage else b"") + done


async def _positions(admission: Admission) -> AsyncGenerator[int]:
    """Wait for the slot; yield the place in the queue at once, then whenever it has changed."""
    slot = admission.acquire()
    told, patience = 0, 0.0
    while not await slot.wait(within=patience):
        if slot.position != told:
            told = slot.position
            yield told
        patience = POSITION_INTERVAL
