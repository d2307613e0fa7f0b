"""The parts that the lifespan opened, as a dependency of routes."""

from typing import Annotated

from fastapi import Depends, Request

from app.lifespan import Services


async def services_of(request: Request) -> Services:
    """Return what the lifespan opened."""
    services: Services = request.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
