"""What `/v1` has beyond OpenAI's API, and which models it offers."""

from typing import Any

import pytest
from openai import NotFoundError

from tests.api.test_chat import Shelf, serve_from
from tests.service import COMPLETION, QUESTION, at_upstream, error_of, serve
from tests.upstream import FakeUpstream

RETRIEVE: dict[str, Any] = {"extra_body": {"retrieve": True}}
SOURCE = {
    "title": "Zebras",
    "url": "https://example.org/zebra",
    "snippet": "A zebra has stripes.",
    "source": "animals",
}


async def test_answers_from_sources(upstream: FakeUpstream) -> None:
    """With `retrieve` the first chunk, or the completion, carries the sources, as `/chat` does."""
    broken = Shelf("broken")
    broken.error = RuntimeError("down")
    async with serve_from(Shelf(), broken, **at_upstream(upstream)) as service:
        create = service.openai.chat.completions.create
        chunks = [chunk async for chunk in await create(**COMPLETION, **RETRIEVE, stream=True)]
        whole = await create(**COMPLETION, **RETRIEVE)
        plain = await create(**COMPLETION)
    extras = [chunk.model_extra or {} for chunk in chunks]
    expected = {"sources": [SOURCE], "degraded": [{"source": "broken", "reason": "failed"}]}
    assert extras[0].items() >= expected.items()
    assert not any("sources" in extra for extra in extras[1:])
    assert (whole.model_extra or {}).items() >= expected.items()
    assert "sources" not in (plain.model_extra or {})
    for body in [request.json for request in upstream.requests][:2]:
        assert "retrieve" not in body
        assert SOURCE["snippet"] in str(body["messages"])


@pytest.mark.parametrize("stream", [False, True])
async def test_other_models_are_refused(upstream: FakeUpstream, *, stream: bool) -> None:
    """LLM_MODELS_ALLOWED: any other model is not found, before money is spent."""
    settings = at_upstream(upstream, llm_models_allowed=("a", "b"), llm_max_concurrency=1)
    async with serve(**settings) as service:
        create = service.openai.chat.completions.create
        with pytest.raises(NotFoundError) as refused:
            await create(**{**COMPLETION, "model": "c"}, stream=stream)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        answer = await service.client.post("/chat", json={**QUESTION, "model": "c"})
        assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")
        assert upstream.counts.received == 0
        assert await create(**{**COMPLETION, "model": "b"})
        assert await service.chat()  # the default model needs no permission
