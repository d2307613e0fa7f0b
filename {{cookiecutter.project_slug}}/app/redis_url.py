"""REDIS_URL, checked when the settings are read."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr
from redis.asyncio.connection import parse_url


def _checked(url: SecretStr) -> SecretStr:
    try:
        parse_url(url.get_secret_value())
    except ValueError:  # its words may quote a part of the password
        raise ValueError("should be like redis://:password@host:6379/0 or unix://path") from None
    return url


RedisUrl = Annotated[SecretStr, AfterValidator(_checked)]
"""`redis://host:port/db`, `rediss://` for TLS, or `unix://path`; it may hold a password."""
