"""Who is asking: `Authorization: Bearer KEY`, or the address where no keys are set."""

from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.services import ServicesDep
from app.clients import Client
from app.errors import UnauthorizedError

bearer = HTTPBearer(auto_error=False, description="One of the keys of API_KEYS")


async def authenticate(
    request: Request,
    services: ServicesDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Client:
    """Identify the client, by name in logs and budgets; UnauthorizedError if the key is unknown."""
    if services.keyring.is_open:
        client = Client(f"address:{request.client.host if request.client else 'unknown'}")
    else:
        known = credentials and services.keyring.client_with(credentials.credentials)
        if not known:
            raise UnauthorizedError("an API key is needed, as `Authorization: Bearer KEY`")
        client = known
    structlog.contextvars.bind_contextvars(client=client.name)
    return client


ClientDep = Annotated[Client, Depends(authenticate)]
