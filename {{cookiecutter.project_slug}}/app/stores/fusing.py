"""Several rankings made one.

Reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009): what is r-th in a ranking gets
1 / (60 + r) from it.

Needs the standard library only.
"""

from collections.abc import Sequence

DAMPING = 60


def fuse(*rankings: Sequence[int]) -> list[tuple[int, float]]:
    """Return the ids of all rankings with their scores, best first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, id_ in enumerate(ranking, start=1):
            scores[id_] = scores.get(id_, 0.0) + 1 / (DAMPING + rank)
    return sorted(scores.items(), key=lambda item: -item[1])
