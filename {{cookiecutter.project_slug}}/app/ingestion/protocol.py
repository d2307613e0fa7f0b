"""The web as a source: a search, a page as Markdown, and the ways in which they fail.

Needs the standard library only. The errors form one tree; those marked * may heal by themselves:

    WebError
    ├── BadKeyError               the vendor does not know the key
    ├── OutOfCreditError          the account is used up
    ├── VendorUnavailableError *  unreachable, overloaded, too slow, or failing
    │   └── WebBusyError *        no slot for a call to the vendor came free
    ├── BlockedPageError          the page does not let itself be read
    ├── EmptyPageError            the page has no text
    ├── TooLargeError             the answer is larger than what is accepted
    ├── BadAnswerError            an answer that makes no sense
    └── ForbiddenURLError         a URL that must not, or cannot, be fetched
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class WebError(Exception):
    """A search or a page could not be had; `retry_after` is in seconds, or None.

    `heals` says whether trying again later may help, and `shows_words` whether the message may
    quote the vendor: what it says about the key and the account is the operator's affair, and
    these messages reach users.
    """

    type = "web_error"
    heals = False
    shows_words = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadKeyError(WebError):
    """The vendor does not know the key: an operator must act."""

    type = "web_bad_key"
    shows_words = False


class OutOfCreditError(WebError):
    """The account has no credit left: an operator must act."""

    type = "web_out_of_credit"
    shows_words = False


class VendorUnavailableError(WebError):
    """The vendor cannot be reached, is overloaded or failed; it may heal."""

    type = "web_unavailable"
    heals = True
    shows_words = False


class WebBusyError(VendorUnavailableError):
    """All slots for calls to the vendor are taken, and stayed so for as long as a call waits."""

    type = "web_busy"


class BlockedPageError(WebError):
    """The page does not let itself be read."""

    type = "web_page_blocked"


class EmptyPageError(WebError):
    """The page has no text."""

    type = "web_page_empty"


class TooLargeError(WebError):
    """The answer is larger than what is accepted."""

    type = "web_too_large"


class BadAnswerError(WebError):
    """The vendor's answer is not in its format, or is an error nobody has described."""

    type = "web_bad_answer"


class ForbiddenURLError(WebError):
    """A URL that this service must not or cannot have fetched."""

    type = "invalid_url"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One result of a web search."""

    title: str
    url: str
    text: str


class WebSearch(Protocol):
    """A vendor that searches the web."""

    async def search(self, query: str, *, limit: int) -> Sequence[SearchResult]:
        """Return up to `limit` results, best first; any failure is a WebError."""
        ...


class PageReader(Protocol):
    """A vendor that reads pages."""

    async def markdown(self, url: str) -> str:
        """Return the page's text as Markdown, never empty; any failure is a WebError."""
        ...
