"""Liveness, readiness and metrics."""

from math import ceil

from fastapi import APIRouter, Response, status

from app.api.admission import ServicesDep

METRICS_MEDIA_TYPE = "text/plain; version=1.0.0; charset=utf-8"

router = APIRouter(tags=["health"])


@router.api_route("/health", methods=["GET", "HEAD"], include_in_schema=False)
@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer while the event loop runs."""
    return {"status": "alive"}


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
async def readyz(services: ServicesDep, response: Response) -> dict[str, str]:
    """Tell whether new requests are accepted: 503 while draining, with the drain timeout."""
    if services.drain.started:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(ceil(services.settings.drain_timeout))
        return {"status": "draining"}
    return {"status": "ready"}


@router.get("/metrics")
async def metrics(services: ServicesDep) -> Response:
    """Return the metrics of all workers in Prometheus' text format."""
    return Response(await services.metrics.text(), media_type=METRICS_MEDIA_TYPE)
