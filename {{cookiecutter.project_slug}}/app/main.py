"""The application: routes, error handlers, middleware.

    uvicorn --factory app.main:create_app

Importing this module does no work.
"""

import structlog
from fastapi import FastAPI

from app import __title__, __version__
from app.api import chat, errors, health, openai
from app.api.documents import router as documents_router  # optional: vector_store
from app.api.page import router as page_router  # optional: web_page
from app.lifespan import lifespan
from app.settings import Settings, load_settings
from app.telemetry.access import RequestLog
from app.telemetry.logs import configure_logging

log = structlog.get_logger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the service; without `settings` they are read from the environment."""
    settings = settings or load_settings()
    configure_logging(settings.log_level)
    if settings.removed:
        log.warning("settings that were removed are still set", removed=settings.removed)
    app = FastAPI(title=__title__, version=__version__, lifespan=lambda _: lifespan(settings))
    app.add_middleware(RequestLog)
    errors.add_handlers(app)
    app.include_router(chat.router)
    app.include_router(openai.router)
    app.include_router(documents_router)  # optional: vector_store
    app.include_router(health.router)
    app.include_router(page_router)  # optional: web_page
    return app
