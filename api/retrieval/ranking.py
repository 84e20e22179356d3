"""Scores of indexed and new premises, merged into one answer."""

from collections.abc import Sequence

import numpy as np

from api.search.index import Hits, inner_products
from shared.vectors import Vector, Vectors

Ranked = list[tuple[str, np.float32]]
"""Names and scores, best first."""


def new_premise_scores(state: Vector, new: Vectors) -> Vector:
    """Inner products [n] of each row with the state, in float32.

    The same kernel as for indexed rows: a text that is both scores the same number.
    """
    return inner_products(state, new, np.arange(len(new), dtype=np.int64))


def merge(indexed: Hits, names: Sequence[str], new_scores: Vector, new_names: Sequence[str], k: int) -> Ranked:
    """The k best of both. Equal scores: indexed before new, then by position."""
    scores = np.concatenate([indexed.scores, new_scores])
    # Stable on a list that is already in the order of the rule.
    order = np.argsort(-scores, kind="stable")[:k]
    split = len(indexed.ids)
    return [(names[indexed.ids[i]] if i < split else new_names[i - split], scores[i]) for i in order.tolist()]
