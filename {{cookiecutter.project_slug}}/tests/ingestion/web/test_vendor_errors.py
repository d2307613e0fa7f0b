"""A vendor's sentence is enough to know what to do about it."""

import pytest

from app.ingestion.protocol import (
    BadAnswerError,
    BadKeyError,
    BlockedPageError,
    EmptyPageError,
    ForbiddenURLError,
    OutOfCreditError,
    VendorUnavailableError,
    WebError,
)
from app.ingestion.vendor_errors import kind_by_words, kind_of, words_of


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Insufficient credits, please recharge", OutOfCreditError),
        ("Your account has run out of searches: no balance", OutOfCreditError),
        ("This request exceeds your plan's set usage limit.", OutOfCreditError),
        ("Invalid API key. Please try again", BadKeyError),
        ("invalid api_key", BadKeyError),
        ("Unauthorized: missing or invalid Authorization header", BadKeyError),
        ("timeout: request exceeded the maximum allowed duration", VendorUnavailableError),
        ("Page load timed out", VendorUnavailableError),
        ("Your request has been blocked: too many requests", VendorUnavailableError),
        ("Rate limit exceeded", VendorUnavailableError),
        ("no free lane", VendorUnavailableError),
        ("Service temporarily unavailable", VendorUnavailableError),
        ("The page is blocked by Cloudflare", BlockedPageError),
        ("captcha found", BlockedPageError),
        ("403 Forbidden", BlockedPageError),
        ("Access denied by robots.txt", BlockedPageError),
        ("empty content", EmptyPageError),
        ("No text on this page", EmptyPageError),
        ("Invalid URL", ForbiddenURLError),
        ("Blockchain monkeys explained", None),
        ("something else", None),
        ("", None),
    ],
)
def test_words_have_a_meaning(words: str, kind: type[WebError] | None) -> None:
    """A sentence means one error; what the operator must mend goes before what may heal."""
    assert kind_by_words(words) is kind


def test_a_status_goes_before_words() -> None:
    """A status that means something is believed, and what means nothing at all is a bad answer."""
    assert kind_of(503, "blocked") is VendorUnavailableError
    assert kind_of(400, "blocked") is BlockedPageError
    assert kind_of(400, "what?") is BadAnswerError


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"msg": "one"}, "one"),
        ({"message": "one", "detail": "two"}, "one"),
        ({"msg": "", "error": {"message": "two"}}, "two"),
        ({"detail": {"error": "three"}}, "three"),
        ("one\r\n  two\x00\u202e", "one two"),
        ({"detail": [{"msg": "a list"}]}, ""),
        ({"error": 5}, ""),
        (None, ""),
    ],
)
def test_words_are_found(answer: object, words: str) -> None:
    """Wherever a vendor puts its words, they come out as one harmless line."""
    assert words_of(answer) == words
