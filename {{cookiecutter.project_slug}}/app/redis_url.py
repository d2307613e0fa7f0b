"""REDIS_URL, checked when the settings are read."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr
from redis.asyncio.connection import parse_url


def _checked(url: SecretStr) -> SecretStr:
    parse_url(url.get_secret_value())  # ValueError says which forms there are
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_checked)]
"""`redis://host:port/db`, `rediss://` for TLS, or `unix://path`; it may hold a password."""
