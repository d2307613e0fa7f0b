"""Passages in Qdrant, on one server or in a cluster.

Search is by vectors and by words; those are sparse vectors, whose rarity Qdrant counts (IDF),
without stems. Qdrant has no transactions: a search during `replace` may find old passages beside
new ones, and an interrupted `replace` is only complete after it was repeated. A server that is not
reachable fails single calls, not the start.

Needs qdrant-client and a server of version 1.16 or later.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Self, TypeVar
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit
from uuid import NAMESPACE_OID, uuid5
from zlib import crc32

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from .base import Hit, Passage, Source, StoreUnavailableError, Vector
from .ranking import CANDIDATES, RRF_K, question_words, words

T = TypeVar("T")

TIMEOUT = 10
"""Seconds for one request."""
BATCH = 64
"""Passages in one request; to serialize them takes time on the event loop."""
NOT_FOUND = 404
MEANING, WORDS = "meaning", "words"
"""The two vectors of a passage."""


class QdrantStore:
    """A PassageStore at http://host:6333 or https://KEY@host:6333; `?collection=passages`."""

    def __init__(
        self, address: str, *, client: Callable[..., AsyncQdrantClient] = AsyncQdrantClient
    ) -> None:
        parts = _split(address)
        host, key = parts.netloc.rpartition("@")[2], parts.password or parts.username
        self._name = f"Qdrant, {host}"
        self._collection = parse_qs(parts.query).get("collection", ["passages"])[0]
        self._new_client = lambda: client(
            url=f"{parts.scheme}://{host}{parts.path}",
            # With `api_key` the client would warn of plain HTTP inside a private network.
            headers={"api-key": unquote(key)} if key else None,
            timeout=TIMEOUT,
            check_compatibility=False,
        )
        self._client: AsyncQdrantClient
        self._is_set_up = False

    async def __aenter__(self) -> Self:
        self._client = await asyncio.to_thread(self._new_client)  # it reads certificates
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def replace(self, source: Source, passages: Sequence[Passage]) -> None:
        """See `PassageStore.replace`; not atomic."""
        if passages:
            await self._set_up(len(passages[0].vector))
        for start in range(0, len(passages), BATCH):
            batch = passages[start : start + BATCH]
            points = await asyncio.to_thread(_points, source, start, batch)
            await self._ask(self._client.upsert(self._collection, points))
        await self._delete(source.id, first=len(passages))

    async def search(self, text: str, vector: Vector, *, limit: int) -> list[Hit]:
        """See `PassageStore.search`."""
        many = max(CANDIDATES, limit)
        queries = [models.Prefetch(query=vector.tolist(), using=MEANING, limit=many)]
        if terms := question_words(text):
            queries.append(models.Prefetch(query=_sparse(terms), using=WORDS, limit=many))
        fusion = models.RrfQuery(rrf=models.Rrf(k=RRF_K))
        with suppress(_NothingStoredError):
            found = await self._ask(
                self._client.query_points(
                    self._collection, prefetch=queries, query=fusion, limit=limit
                )
            )
            rows = [point.payload or {} for point in found.points]
            return [Hit(row["id"], row["text"], row["title"], row["url"]) for row in rows]
        return []

    async def delete(self, document_id: str) -> None:
        """See `PassageStore.delete`."""
        await self._delete(document_id, first=0)

    async def count(self, document_id: str | None = None) -> int:
        """See `PassageStore.count`."""
        where = models.Filter(must=[_of(document_id)]) if document_id else None
        with suppress(_NothingStoredError):
            return (await self._ask(self._client.count(self._collection, where))).count
        return 0

    async def _delete(self, document_id: str, *, first: int) -> None:
        """Remove the passages of the document from that position on."""
        tail = models.FieldCondition(key="position", range=models.Range(gte=first))
        where = models.Filter(must=[_of(document_id), tail])
        with suppress(_NothingStoredError):
            await self._ask(self._client.delete(self._collection, where))

    async def _set_up(self, dimension: int) -> None:
        exists = self._client.collection_exists
        if await self._ask(exists(self._collection)) and self._is_set_up:
            return
        meaning = models.VectorParams(size=dimension, distance=models.Distance.DOT)
        word = models.SparseVectorParams(modifier=models.Modifier.IDF)
        try:
            await self._ask(
                self._client.create_collection(
                    self._collection, {MEANING: meaning}, sparse_vectors_config={WORDS: word}
                )
            )
        except StoreUnavailableError:  # it exists, or another process was faster
            if not await self._ask(exists(self._collection)):
                raise
        keyword = models.PayloadSchemaType.KEYWORD
        await self._ask(self._client.create_payload_index(self._collection, "id", keyword))
        self._is_set_up = True

    async def _ask(self, request: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await request
        except UnexpectedResponse as error:
            kind = _NothingStoredError if error.status_code == NOT_FOUND else StoreUnavailableError
            raise kind.from_error(self._name, error) from error
        except (ApiException, QdrantException, OSError, ValueError) as error:
            raise StoreUnavailableError.from_error(self._name, error) from error


class _NothingStoredError(StoreUnavailableError):
    """There is no such collection yet."""


def _split(address: str) -> SplitResult:
    with suppress(ValueError):
        parts = urlsplit(address)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return parts
    raise ValueError("Not a Qdrant address: use http://localhost:6333 or https://KEY@host:6333")


def _of(document_id: str) -> models.FieldCondition:
    return models.FieldCondition(key="id", match=models.MatchValue(value=document_id))


def _points(source: Source, start: int, passages: Sequence[Passage]) -> list[models.PointStruct]:
    cited = asdict(source)
    return [
        models.PointStruct(
            id=str(uuid5(NAMESPACE_OID, f"{source.id}/{position}")),
            vector={MEANING: passage.vector.tolist(), WORDS: _sparse(words(passage.text))},
            payload={**cited, "position": position, "text": passage.text},
        )
        for position, passage in enumerate(passages, start)
    ]


def _sparse(terms: Sequence[str]) -> models.SparseVector:
    """Weigh terms as BM25 does, by their number with a limit to it."""
    counts = Counter(crc32(term.encode()) for term in terms)
    weights = [count / (count + 1.2) for count in counts.values()]
    return models.SparseVector(indices=list(counts), values=weights)
