"""How two rankings become one."""

from app.stores.fusing import fuse


def test_fuse() -> None:
    """A place in both rankings is worth more than a better one in a single ranking."""
    assert fuse([1, 2, 3], [4, 3]) == [
        (3, 1 / 63 + 1 / 62),
        (1, 1 / 61),
        (4, 1 / 61),
        (2, 1 / 62),
    ]
    assert fuse([], []) == []
