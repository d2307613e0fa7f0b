"""What was handed in, under which id and revision, and as what it waits in the store.

The id of a text or a file is made of its bytes, so the same content is the same document, whoever
sends it and however often; that of a page is made of its URL, that of a file on a disk of its
path. The revision is made of all that the document is to become: what differs is worked on anew.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from app.stores.protocol import Document

MARKDOWN = "text/markdown"
PAGE_LIFETIME = 3600
"""Seconds for which a page that was handed in counts as the same; then it is fetched anew."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a document will be made of: bytes, or the page at a URL."""

    data: bytes = b""
    media_type: str | None = None
    filename: str | None = None
    url: str | None = None

    def pack(self) -> bytes:
        """Return it as the store keeps it: a line of JSON, and the bytes."""
        head = {"media_type": self.media_type, "filename": self.filename, "url": self.url}
        return json.dumps(head).encode() + b"\n" + self.data

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read what `pack` returned."""
        head, _, data = packed.partition(b"\n")
        return cls(data, **json.loads(head))


@dataclass(frozen=True, slots=True)
class Submission:
    """A document that is handed in."""

    content: Content
    name: bytes
    """What the id is made of."""
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: bytes = b""
    """What the revision is made of, beside the title and the metadata."""

    @classmethod
    def text(cls, text: str, title: str = "", metadata: Mapping[str, Any] | None = None) -> Self:
        """Hand in a text, as Markdown."""
        return cls.file(text.encode("utf-8", "replace"), MARKDOWN, None, title, metadata)

    @classmethod
    def file(
        cls,
        data: bytes,
        media_type: str | None,
        filename: str | None,
        title: str = "",
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Hand in a file that was uploaded."""
        return cls(Content(data, media_type, filename), data, title, metadata or {})

    @classmethod
    def page(cls, url: str, title: str = "", metadata: Mapping[str, Any] | None = None) -> Self:
        """Hand in a page that is still to be fetched."""
        version = str(int(time.time() // PAGE_LIFETIME)).encode()
        return cls(Content(url=url), b"url:" + url.encode(), title, metadata or {}, version)

    @classmethod
    def path(cls, path: Path, data: bytes) -> Self:
        """Hand in a file on a disk: when its content changes it is the same document still."""
        name = b"path:" + path.absolute().as_posix().encode("utf-8", "surrogateescape")
        return cls(Content(data, filename=path.name), name, version=data)

    @property
    def document(self) -> Document:
        """The document as it is to be stored."""
        kind = (self.content.media_type, self.content.filename)
        terms = json.dumps([self.title, self.metadata, *kind], sort_keys=True).encode()
        return Document(
            id=_digest(self.name),
            revision=_digest(self.version, terms),
            title=self.title,
            url=self.content.url,
            metadata=self.metadata,
        )


def _digest(*parts: bytes) -> str:
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
