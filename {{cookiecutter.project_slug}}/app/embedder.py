"""Which model turns texts into vectors: the embedded one, or that of EMBEDDING_MODEL."""

import httpx

from app.embeddings.hashing import HashingEmbedder
from app.embeddings.protocol import Embedder
from app.embeddings.remote import RemoteEmbedder
from app.llm.deadlines import DeadlineProvider
from app.llm.failover import FailoverProvider
from app.llm.openai import OpenAIProvider
from app.settings import Settings


def model_of(settings: Settings) -> str:
    """Name the model whose vectors the store holds."""
    return settings.embedding_model or HashingEmbedder.model


def build_embedder(settings: Settings, client: httpx.AsyncClient) -> Embedder:
    """Build the embedder; a model is asked for at OPENAI_BASE_URL, under a limit of its own."""
    if settings.embedding_model is None:
        return HashingEmbedder()
    server = OpenAIProvider(
        client,
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key.get_secret_value(),
    )
    retrying = FailoverProvider([DeadlineProvider(server, settings.deadlines)], models={})
    return RemoteEmbedder(
        retrying.embed,
        model=settings.embedding_model,
        concurrency=settings.embedding_max_concurrency,
    )
