"""A document as it is submitted: its content, its id and its revision.

The id is a hash of what identifies the document: the bytes of a text or an upload, the URL of a
page, the path of a file that is loaded from disk. The revision is a hash of everything that the
passages depend on: a new revision of a known document replaces the earlier one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

MARKDOWN = "text/markdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A document to add; `content` is None for a page that is still to be fetched."""

    identity: bytes
    content: bytes | None = None
    url: str | None = None
    media_type: str | None = None
    filename: str | None = None
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def file(cls, content: bytes, **details: Any) -> Self:  # noqa: ANN401 -- the fields above
        """Submit an uploaded file."""
        return cls(identity=content, content=content, **details)

    @classmethod
    def text(cls, text: str, **details: Any) -> Self:  # noqa: ANN401
        """Submit a text, as Markdown."""
        return cls.file(text.encode("utf-8", "replace"), media_type=MARKDOWN, **details)

    @classmethod
    def page(cls, url: str, **details: Any) -> Self:  # noqa: ANN401
        """Submit a page that is still to be fetched."""
        return cls(identity=b"url:" + url.encode(), url=url, **details)

    @classmethod
    def path(cls, path: Path, content: bytes) -> Self:
        """Submit a file from disk."""
        name = path.absolute().as_posix().encode("utf-8", "surrogateescape")
        return cls(identity=b"path:" + name, content=content, filename=path.name)

    def digests(self) -> tuple[str, str]:
        """Return the id and the revision; hashes the content, so keep it off the event loop."""
        details = [self.title, dict(self.metadata), self.media_type, self.filename]
        revision = _digest(self.content or b"", json.dumps(details, sort_keys=True).encode())
        return _digest(self.identity), revision


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
