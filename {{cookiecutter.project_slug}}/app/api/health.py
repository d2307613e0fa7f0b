"""Whether the process is alive, and whether it should get traffic."""

from math import ceil

from fastapi import APIRouter, Response, status

from app.api.admission import ServicesDep

METRICS_MEDIA_TYPE = "text/plain; version=1.0.0; charset=utf-8"

router = APIRouter(tags=["health"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer as long as the event loop turns."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(services: ServicesDep, response: Response) -> dict[str, str]:
    """Say whether new work is welcome: 503 while draining, and when the drain is over."""
    if services.drain.started:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(ceil(services.settings.drain_timeout))
        return {"status": "draining"}
    return {"status": "ready"}


@router.get("/metrics")
async def metrics(services: ServicesDep) -> Response:
    """Say in Prometheus' text format what the service does."""
    return Response(await services.metrics.text(), media_type=METRICS_MEDIA_TYPE)
