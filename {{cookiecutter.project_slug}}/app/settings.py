"""Every environment variable, once.

Read from the environment and from `.env`; an empty value counts as not set.
Nothing else in the service reads the environment: what a part needs is passed in.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AmqpDsn,  # optional: job_queue
    AnyHttpUrl,
    AnyUrl,  # optional: redis_rate_limiter
    Field,
    Secret,  # optional: job_queue, redis_rate_limiter
    SecretStr,
    UrlConstraints,  # optional: redis_rate_limiter
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.clients import KEY, parse_keys
from app.llm.stream import Deadlines

ProviderName = Literal["echo", "openai", "anthropic"]
OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"
DAY = 86400
STORE_URL = "postgresql://localhost/documents"  # optional: vector_store=pgvector
STORE_URL = "http://localhost:6333"  # optional: vector_store=qdrant
STORE_URL = "sqlite:///data/documents.db"  # optional: vector_store=sqlite
DATABASE_URL = "sqlite:///data/documents.db"  # optional: vector_store=qdrant
DATABASE_URL = ""  # optional: vector_store=sqlite, vector_store=pgvector
BROKER_URL = Secret(AmqpDsn("amqp://guest:guest@localhost/"))  # optional: job_queue
REDIS = UrlConstraints(allowed_schemes=["redis", "rediss", "unix"])  # optional: redis_rate_limiter
REMOVED = {
    "client_terms": "all clients have the same share and limits",
    "tiktoken_encoding": "tokens are estimated",
}
"""Settings of earlier versions, and what holds instead."""
DEFAULT_MODELS: dict[str, str] = {
    "echo": "echo",
    "openai": "gpt-5.4-mini",
    "anthropic": "claude-sonnet-5-5",
}


def _base_url(value: str) -> str:
    url = AnyHttpUrl(value)
    is_plain = url.username is url.password is url.query is url.fragment is None
    if not (is_plain and url.port and all((url.host or "").split("."))):
        raise ValueError("should be like https://host:port/path, with no user, key or query in it")
    return str(url).rstrip("/")


def _header_value(value: SecretStr) -> SecretStr:
    if value and not KEY.fullmatch(value.get_secret_value()):
        raise ValueError("should have letters, digits and signs only, and no space")
    return value


HttpUrl = Annotated[str, AfterValidator(_base_url)]
"""What a path can be put after; a key has a variable of its own."""
ApiKey = Annotated[SecretStr, AfterValidator(_header_value)]
"""Sent in a header, which carries no other characters."""
Seconds = Annotated[float, Field(ge=0.001, le=DAY)]
"""A wait that ends."""
Pause = Annotated[float, Field(ge=0, le=DAY)]
"""A wait that may be none."""


class Settings(BaseSettings):
    """The service's configuration; times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    max_body_bytes: int = Field(20 * 1024 * 1024, ge=1)
    drain_timeout: Pause = 25
    ping_interval: Seconds = 15
    send_timeout: Seconds = 30

    llm_provider: Annotated[tuple[ProviderName, ...], NoDecode] = ("echo",)
    llm_model: Annotated[tuple[str, ...], NoDecode] = ()
    llm_models_allowed: Annotated[tuple[str, ...], NoDecode] = ()
    openai_api_key: ApiKey = SecretStr("")
    openai_base_url: HttpUrl = OPENAI_URL
    anthropic_api_key: ApiKey = SecretStr("")
    anthropic_base_url: HttpUrl = ANTHROPIC_URL

    llm_max_concurrency: int = Field(20, ge=1)
    llm_max_queue: int = Field(200, ge=0)
    llm_queue_timeout: Seconds = 30
    llm_timeout_connect: Seconds = 5
    llm_timeout_first_token: Seconds = 60
    llm_timeout_idle: Seconds = 30
    llm_timeout_total: Seconds = 600

    llm_adaptive: bool = True
    llm_max_tokens: int = Field(4096, ge=1)

    rate_limit_requests: int | None = Field(None, ge=1)
    rate_limit_tokens: int | None = Field(None, ge=1)
    rate_limit_window: float = Field(60, ge=1, le=DAY)
    client_rate_limit_requests: int | None = Field(None, ge=1)
    client_rate_limit_tokens: int | None = Field(None, ge=1)
    redis_url: Secret[Annotated[AnyUrl, REDIS]] | None = None  # optional: redis_rate_limiter

    vector_store_url: SecretStr = SecretStr(STORE_URL)  # optional: vector_store
    database_url: SecretStr = SecretStr(DATABASE_URL)  # optional: vector_store
    embedding_model: str | None = None  # optional: vector_store
    embedding_max_concurrency: int = Field(4, ge=1)  # optional: vector_store
    ingestion_concurrency: int = Field(2, ge=1)  # optional: vector_store
    broker_url: Secret[AmqpDsn] = BROKER_URL  # optional: job_queue
    serppost_api_key: ApiKey = SecretStr("")  # optional: ingestion_client
    serppost_base_url: HttpUrl = "https://serppost.com"  # optional: ingestion_client
    serppost_request_slots: int = Field(68, ge=1)  # optional: ingestion_client
    retrieval_timeout: Seconds = 5
    retrieval_passages: int = Field(6, ge=1)
    retrieval_tokens: int = Field(2000, ge=1)

    api_keys: Annotated[dict[str, SecretStr], NoDecode] = {}

    echo_first_token_delay: Pause = 0.3
    echo_token_interval: Pause = 0.03
    echo_token_count: int | None = Field(None, ge=1)

    client_terms: SecretStr | None = None
    tiktoken_encoding: SecretStr | None = None

    @field_validator("llm_provider", "llm_model", "llm_models_allowed", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return _parts(value)
        return value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _parse_keys(cls, value: object) -> object:
        return parse_keys(_parts(value)) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _providers_are_complete(self) -> Self:
        if not self.llm_provider or len(set(self.llm_provider)) < len(self.llm_provider):
            raise ValueError("LLM_PROVIDER should name a provider, and each once")
        if len(self.llm_model) > len(self.llm_provider):
            raise ValueError("LLM_MODEL names more models than LLM_PROVIDER names providers")
        lacks_key = {
            "openai": self.openai_base_url == OPENAI_URL and not self.openai_api_key,
            "anthropic": self.anthropic_base_url == ANTHROPIC_URL and not self.anthropic_api_key,
        }
        wanted = {name: f"LLM_PROVIDER={name}" for name in self.llm_provider}
        if self.embedding_model:  # optional: vector_store
            wanted.setdefault("openai", "EMBEDDING_MODEL")  # optional: vector_store
        for provider, setting in wanted.items():
            if lacks_key.get(provider):
                raise ValueError(f"{provider.upper()}_API_KEY is missing; {setting} needs it")
        return self

    @model_validator(mode="after")
    def _each_worker_has_a_share(self) -> Self:
        least = {
            "llm_max_concurrency": 1,
            "rate_limit_requests": 1,
            "rate_limit_tokens": self.llm_max_tokens,
            "client_rate_limit_requests": 1,
            "client_rate_limit_tokens": self.llm_max_tokens,
            "serppost_request_slots": 1,  # optional: ingestion_client
        }
        for name, share in least.items():
            limit, lowest = getattr(self, name), self.workers * share
            if limit is not None and limit < lowest:
                origin = "LLM_MAX_TOKENS=" if name.endswith("tokens") else ""
                raise ValueError(
                    f"{name.upper()}={limit} is below {lowest}: each of the WORKERS={self.workers} "
                    f"processes needs at least {origin}{share}"
                )
        return self

    @property
    def models(self) -> dict[str, str]:
        """The model of each provider: LLM_MODEL in the order of LLM_PROVIDER, else a default."""
        named = dict(zip(self.llm_provider, self.llm_model, strict=False))
        return {name: named.get(name, DEFAULT_MODELS[name]) for name in self.llm_provider}

    @property
    def removed(self) -> str:
        """Name the removed settings that are still set, in one line; "" if none."""
        still_set = sorted(REMOVED.keys() & self.model_fields_set)
        return "; ".join(f"{name.upper()}: {REMOVED[name]}" for name in still_set)

    @property
    def deadlines(self) -> Deadlines:
        """How long a provider may take."""
        return Deadlines(
            first_token=self.llm_timeout_first_token,
            idle=self.llm_timeout_idle,
            total=self.llm_timeout_total,
        )


def _parts(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


def load_settings(**values: Any) -> Settings:  # noqa: ANN401
    """Read the settings; a bad value ends the program with one line that names the variable."""
    try:
        return Settings(**values)
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors(include_url=False)))
        raise SystemExit(f"Bad settings: {problems}") from None


def _problem(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # a rule over several variables, which names them itself
        return message
    name = str(error["loc"][0])
    is_secret = any(part in name for part in ("key", "url"))  # or may be by mistake
    return f"{name.upper()}{'' if is_secret else '={!r}'.format(error['input'])}: {message}"
