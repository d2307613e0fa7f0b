"""BROKER_URL, checked when the settings are read."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr


def _checked(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    try:
        has_port = parts.port != 0
    except ValueError:
        has_port = False
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname or not has_port:
        raise ValueError("should be like amqp://user:password@host:5672/")
    return url


BrokerUrl = Annotated[SecretStr, AfterValidator(_checked)]
"""`amqp://user:password@host:port/vhost`, or `amqps://` for TLS."""
