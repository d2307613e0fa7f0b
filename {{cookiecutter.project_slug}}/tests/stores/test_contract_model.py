"""A store is filled by one embedding model only."""

import re

import pytest

from app.stores.protocol import Document, EmbeddingMismatchError, Passage
from tests.stores.contract import OpenStore, axis, found, passages, state, store_passages, submit


async def test_filled_by_another_model(open_store: OpenStore) -> None:
    """A store that another model filled is refused with both names; its own still opens it."""
    async with open_store("model-a") as store:
        await store_passages(store, "d", passages("a"))
    refused = open_store("model-b")
    with pytest.raises(EmbeddingMismatchError, match=r"model-a.*model-b|model-b.*model-a") as error:
        async with refused:
            pass
    assert "\n" not in str(error.value)
    async with open_store("model-a") as store:
        assert await found(store) == {"a"}


async def test_empty_store_takes_any_model(open_store: OpenStore) -> None:
    """A store without passages takes another model, with vectors of another dimension."""
    async with open_store("model-a") as store:
        await store_passages(store, "d", passages("a"))
        await store.delete("d")
        await submit(store, "waiting")
    async with open_store("model-b") as store:
        assert await store.unfinished() == ["waiting"]
        await store_passages(store, "d", passages("b", at=axis(0, dimension=3)))
        hits = await store.search("b", axis(0, dimension=3), limit=5)
        assert [hit.text for hit in hits] == ["b"]
    refused = open_store("model-a")
    with pytest.raises(EmbeddingMismatchError):
        async with refused:
            pass


async def test_relabelled_meanwhile(open_store: OpenStore) -> None:
    """A store that was empty when two models opened it is filled by the later one only."""
    async with open_store("model-a") as one, open_store("model-b") as other:
        await submit(one)
        with pytest.raises(EmbeddingMismatchError, match="model-b"):
            await one.upsert("d", "1", passages("a"))
        assert await other.upsert("d", "1", passages("b")) is True
        assert await found(other) == {"b"}


@pytest.mark.parametrize("wrong", [1, 7, 9, 16])
async def test_another_dimension(open_store: OpenStore, wrong: int) -> None:
    """Vectors of another dimension are refused with both numbers, and nothing is changed."""
    async with open_store() as store, open_store() as other:
        await store_passages(store, "d", passages("a"))
        await submit(store, revision="2")
        for some in (store, other):
            with pytest.raises(EmbeddingMismatchError) as error:
                await some.upsert("d", "2", passages("b", at=axis(0, dimension=wrong)), title="B")
            assert {str(wrong), "8"} <= set(re.findall(r"\d+", str(error.value)))
            with pytest.raises(EmbeddingMismatchError):
                await some.search("a", axis(0, dimension=wrong), limit=3)
        assert await state(store) == "queued"
        assert await found(store) == {"a"}


async def test_mixed_dimensions(open_store: OpenStore) -> None:
    """Passages that differ among themselves are refused, also in an empty store."""
    mixed = [Passage("a", axis(0)), Passage("b", axis(0, dimension=5))]
    async with open_store() as store:
        await submit(store)
        with pytest.raises(EmbeddingMismatchError):
            await store.upsert("d", "1", mixed)
        assert await store.count() == 0
        assert await state(store) == "queued"
        assert await store.upsert("d", "1", passages("c")) is True


async def test_no_passages_fix_no_dimension(open_store: OpenStore) -> None:
    """A document without passages leaves the dimension open."""
    async with open_store() as store:
        await store_passages(store, "empty", [])
        await store_passages(store, "d", passages("a", at=axis(0, dimension=3)))
        assert await store.count() == 1


async def test_queue_needs_no_model(open_store: OpenStore) -> None:
    """What a store filled by another model has waiting is not touched by a refused opening."""
    async with open_store("model-a") as store:
        await store_passages(store, "d", passages("a"))
        await store.submit(Document("w", "1", ""), b"")
        refused = open_store("model-b")
        with pytest.raises(EmbeddingMismatchError):
            await refused.__aenter__()
        assert await store.unfinished() == ["w"]
        assert await store.upsert("w", "1", passages("b")) is True
