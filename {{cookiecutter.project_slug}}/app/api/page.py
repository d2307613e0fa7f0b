"""The chat page at `/`: three files of `app/web`, and a policy that lets it load nothing else."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

WEB = Path(__file__).parent.parent / "web"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""The page may talk to its own service only, and no text becomes markup, even by mistake."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index() -> FileResponse:
    """Show the page."""
    return _file("index.html", "text/html")


@router.get("/page.css")
async def style() -> FileResponse:
    """Say how the page looks."""
    return _file("page.css", "text/css")


@router.get("/page.js")
async def script() -> FileResponse:
    """Say what the page does."""
    return _file("page.js", "text/javascript")


def _file(name: str, media_type: str) -> FileResponse:
    return FileResponse(WEB / name, media_type=media_type, headers=HEADERS)
