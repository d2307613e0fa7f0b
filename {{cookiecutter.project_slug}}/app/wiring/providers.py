"""Builds the providers of LLM_PROVIDER as one, with deadlines, retries and fallback."""

from collections.abc import Sequence

import httpx

from app.llm.anthropic import AnthropicProvider
from app.llm.base import JSONObject, Provider
from app.llm.echo import EchoProvider
from app.llm.openai import OpenAIProvider
from app.llm.router import Ceiling, Router
from app.llm.transport import OnHeaders
from app.retrieval.prompt import quoted
from app.settings import OPENAI_URL, ProviderName, Settings
from app.wiring.limits import RateLimits


def build_provider(
    settings: Settings, client: httpx.AsyncClient, *, ceiling: Ceiling, limits: RateLimits
) -> Provider:
    """Build the providers of LLM_PROVIDER, in its order of fallback, on the shared client.

    ValueError if an adapter has another name than it is chosen by. `ceiling` adapts to their load,
    `limits` to the rate-limit headers of the first.
    """
    adapters: list[Provider] = []
    for name in settings.llm_provider:
        # RATE_LIMIT_* are the limits of the first.
        adapter = build_adapter(name, settings, client, None if adapters else limits.correct)
        if adapter.name != name:  # its model is looked up by that name
            raise ValueError(
                f"LLM_PROVIDER={name} builds an adapter with the name {adapter.name!r}: "
                "give both the same name"
            )
        adapters.append(adapter)
    return Router(
        adapters,
        models=settings.models,
        deadlines=settings.deadlines,
        ceiling=ceiling if settings.llm_adaptive else None,
    )


def build_adapter(
    name: ProviderName, settings: Settings, client: httpx.AsyncClient, on_headers: OnHeaders | None
) -> Provider:
    """Build one provider; `on_headers` is called with the headers of its answers."""
    match name:
        case "echo":
            return EchoProvider(
                first_token_delay=settings.echo_first_token_delay,
                token_interval=settings.echo_token_interval,
                token_count=settings.echo_token_count,
                answer=_passage_cited,
            )
        case "openai":
            return OpenAIProvider(
                client,
                base_url=settings.openai_base_url,
                api_key=settings.openai_api_key.get_secret_value(),
                renames_max_tokens=settings.openai_base_url == OPENAI_URL,
                on_headers=on_headers,
            )
        case "anthropic":
            return AnthropicProvider(
                client,
                base_url=settings.anthropic_base_url,
                api_key=settings.anthropic_api_key.get_secret_value(),
                on_headers=on_headers,
            )


def _passage_cited(messages: Sequence[JSONObject]) -> str | None:
    """Answer with the best passage that a model would get, if there is one."""
    passage = quoted(messages)
    return None if passage is None else f"The best passage found says: {passage} [1]"
