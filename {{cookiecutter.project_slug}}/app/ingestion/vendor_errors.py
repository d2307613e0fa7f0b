"""What a vendor's refusal means: from its status, or from its words where the status says nothing.

Vendors of this trade send errors under HTTP 200 or 400 with no more than a sentence, so sentences
are read here. A sentence that nobody has foreseen means nothing, and so a BadAnswerError.

Needs: `protocol.py` beside it.
Sources of the sentences: https://www.searchcans.com/error-codes/ (an API of SERPpost's format);
https://help.tavily.com/articles/8645538886-understanding-http-errors;
https://serpapi.com/api-errors
"""

import re
from collections.abc import Mapping

from .protocol import (
    BadAnswerError,
    BadKeyError,
    BlockedPageError,
    EmptyPageError,
    ForbiddenURLError,
    OutOfCreditError,
    VendorUnavailableError,
    WebError,
)

STATUS_ERRORS: Mapping[int, type[WebError]] = {
    401: BadKeyError,
    402: OutOfCreditError,
    403: BadKeyError,
    408: VendorUnavailableError,
    425: VendorUnavailableError,
    429: VendorUnavailableError,
    **dict.fromkeys(range(500, 600), VendorUnavailableError),
}

WORDS: tuple[tuple[type[WebError], str], ...] = (
    (OutOfCreditError, r"credits?|balance|quota|billing|payment|recharge|usage limit"),
    (BadKeyError, r"api.?keys?|(invalid|unknown|expired|bad) (key|token|authorization)"),
    (BadKeyError, r"^unauthori[sz]ed"),
    (VendorUnavailableError, r"timed?.?out|too many|rate.?limit\w*|frequen\w+|lanes?|slots?"),
    (VendorUnavailableError, r"busy|overload\w*|unavailable|try again|temporar\w+|internal error"),
    (BlockedPageError, r"block(ed|s|ing)|captcha|robots\.txt|access denied|forbidden|anti.?bot"),
    (EmptyPageError, r"empty (page|content|body)|no (content|text|markdown)"),
    (ForbiddenURLError, r"(invalid|malformed|unsupported|bad) url"),
)
"""The first that is found counts: "too many requests: blocked" heals, "no credits, try again"
does not."""

SAID_IN = ("msg", "message", "error", "detail")


def kind_by_words(words: str) -> type[WebError] | None:
    """Return the error that a vendor's sentence describes, or None."""
    for kind, pattern in WORDS:
        if re.search(rf"\b({pattern})\b", words, re.IGNORECASE):
            return kind
    return None


def kind_of(
    status: int, words: str, statuses: Mapping[int, type[WebError]] = STATUS_ERRORS
) -> type[WebError]:
    """Return the error for a status, or, where it tells nothing, for the words beside it."""
    return statuses.get(status) or kind_by_words(words) or BadAnswerError


def words_of(answer: object) -> str:
    """Find the vendor's words in an error's JSON, wherever they are; "" if there are none.

    They are one line, whatever was in them.
    """
    if isinstance(answer, str):
        return " ".join("".join(c if c.isprintable() else " " for c in answer).split())
    if not isinstance(answer, dict):
        return ""
    return next((words for name in SAID_IN if (words := words_of(answer.get(name)))), "")
