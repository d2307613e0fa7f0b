"""Text as any database can keep it.

U+0000 (which PostgreSQL refuses) and lone surrogates (which are no UTF-8) become U+FFFD, the
replacement character; the numbers that JSON has not (NaN and the infinities) become null. All
else stays as it is. Every text that goes into a store or is looked up there passes through here,
ids and questions too.

Needs the standard library only.
"""

import math
from collections.abc import Mapping
from typing import Any

REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """Return the text without characters that some database cannot keep."""
    text = text.replace("\0", REPLACEMENT)
    try:
        text.encode()
    except UnicodeEncodeError:  # as UTF-16, so that two surrogates that are a pair become one
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with each text and number in it storable, keys too, however deep."""
    return {storable(key): _storable_value(value) for key, value in metadata.items()}


def _storable_value(value: object) -> object:
    match value:
        case str():
            return storable(value)
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return storable_metadata(value)
        case list() | tuple():
            return [_storable_value(part) for part in value]
        case _:
            return value
