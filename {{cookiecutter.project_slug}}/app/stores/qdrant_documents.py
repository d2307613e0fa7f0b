"""What is done to a document's record in a Qdrant store: changes that `Records.edit` makes.

A record names the one version of the document's passages that can be found, as `current`. Beside
it: `drafts` are versions that somebody is writing, `drops` are versions and contents that are
gone for good and still to be removed, `space` is the collection that the versions are in; so
whatever dies in between leaves nothing that is unknown. A deleted document stays as a record of
that state until its passages are removed.

Needs `protocol`, `qdrant_records` and `storable` beside it.
"""

import json
import time
from typing import TypeGuard
from uuid import NAMESPACE_OID, uuid5

from .protocol import Document
from .qdrant_records import Change, Record
from .storable import storable, storable_metadata

UNFINISHED = ("queued", "processing")
DELETED = "deleted"


def point_of(document_id: str) -> str:
    """Return the id of the document's point, made of the id that it is stored under."""
    return str(uuid5(NAMESPACE_OID, document_id))


def document_of(record: Record | None) -> Document | None:
    """Return the document of a record, if it is not deleted."""
    if record is None or record["state"] == DELETED:
        return None
    return Document(
        record["id"],
        record["revision"],
        record["title"],
        record["url"],
        json.loads(record["metadata"]),
        record["state"],
        record["passages"],
        record["attempts"],
        record["error"],
    )


def is_at(record: Record | None, revision: str) -> TypeGuard[Record]:
    """Whether the record is that of a document at this revision."""
    return record is not None and record["state"] != DELETED and record["revision"] == revision


def submitted(document: Document, content: str, chunks: int) -> Change:
    """Queue a new revision; the passages of the old one stay."""
    fields = {
        "id": storable(document.id),
        "revision": storable(document.revision),
        "title": storable(document.title),
        "url": None if document.url is None else storable(document.url),
        "metadata": json.dumps(storable_metadata(document.metadata)),
        "state": "queued",
        "attempts": 0,
        "error": None,
        "content": content,
        "chunks": chunks,
    }
    nothing: Record = {"current": None, "space": None, "passages": 0, "drafts": [], "drops": []}

    def change(old: Record | None) -> Record:
        old = old or nothing
        return old | fields | {"submitted": time.time_ns(), "drops": _with_content(old)}

    return change


def begun(old: Record | None) -> Record | None:
    """Count an attempt at what is not finished."""
    if old is None or old["state"] not in UNFINISHED:
        return None
    return old | {"state": "processing", "attempts": old["attempts"] + 1}


def drafted(revision: str, version: str, space: str | None) -> Change:
    """Announce a version that is about to be written, and where."""

    def change(old: Record | None) -> Record | None:
        if not is_at(old, revision):
            return None
        # Passages that can be found are counted by their space: while there are any, it stays.
        where = old["space"] if old["passages"] else space or old["space"]
        return old | {"drafts": [*old["drafts"], version], "space": where}

    return change


def published(revision: str, version: str, space: str | None, passages: int, title: str) -> Change:
    """Make a draft the current version; the former one, and all other drafts, are to go."""

    def change(old: Record | None) -> Record | None:
        if not is_at(old, revision) or version not in old["drafts"]:
            return None
        others = {old["current"], *old["drafts"]} - {version, None}
        return old | {
            "state": "ready",
            "error": None,
            "title": old["title"] or title,
            "current": version,
            "space": space or old["space"],
            "passages": passages,
            "content": None,
            "drafts": [],
            "drops": [*_with_content(old), *others],
        }

    return change


def failed(revision: str, error: str) -> Change:
    """Give up on a revision that is not stored, and on all that is written of it."""

    def change(old: Record | None) -> Record | None:
        if not is_at(old, revision) or old["state"] == "ready":
            return None
        return old | {
            "state": "failed",
            "error": error,
            "content": None,
            "drafts": [],
            "drops": [*_with_content(old), *old["drafts"]],
        }

    return change


def deleted(old: Record | None) -> Record | None:
    """Let nothing of it be found."""
    if old is None or old["state"] == DELETED:
        return None
    versions = {old["current"], *old["drafts"]} - {None}
    return old | {
        "state": DELETED,
        "current": None,
        "passages": 0,
        "content": None,
        "drafts": [],
        "drops": [*_with_content(old), *versions],
    }


def tidied(done: list[str]) -> Change:
    """Forget what has been removed."""

    def change(old: Record | None) -> Record | None:
        if old is None:
            return None
        return old | {"drops": [drop for drop in old["drops"] if drop not in done]}

    return change


def _with_content(old: Record) -> list[str]:
    content = old.get("content")
    return [*old["drops"], content] if content else old["drops"]
