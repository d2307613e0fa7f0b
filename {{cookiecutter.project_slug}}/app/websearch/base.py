"""What a web search returns, and how searches and page fetches fail."""

from dataclasses import dataclass

from app.errors import ServiceError


class WebError(ServiceError):
    """This page or search failed, and would fail again."""

    type = "web_error"
    permanent = True


class ForbiddenURLError(WebError):
    """The URL must not, or cannot, be fetched."""

    type = "invalid_url"


class WebAccountError(WebError):
    """Wrong key or no credit: an operator must act."""

    type = "web_account"
    permanent = False
    public_message = "web search is not available"


class WebUnavailableError(WebError):
    """Unreachable, overloaded or too slow: trying again may help."""

    type = "web_unavailable"
    permanent = False


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One result of a web search."""

    title: str
    url: str
    text: str
