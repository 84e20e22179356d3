"""Exact inner-product search over a subset of the premises, with FAISS."""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from api.accessible import PremiseMask

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Hits:
    """Best first; equal scores by premise id."""

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]


class PremiseIndex:
    """Row i is premise id i. Searches may run in many threads at once."""

    def __init__(self, embeddings: Vectors) -> None:
        faiss.omp_set_num_threads(1)  # requests run side by side; splitting one gains little
        self._index = faiss.IndexFlatIP(embeddings.shape[1])
        self._index.add(np.ascontiguousarray(embeddings, dtype=np.float32))

    def search(self, state: Vector, accessible: PremiseMask, k: int) -> Hits:
        """The k premises with the highest inner products among the accessible ones."""
        k = min(k, int(np.count_nonzero(accessible)))
        if k == 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        selector = self._selector(accessible)
        query = state.reshape(1, -1)
        # One more than asked: only if it ties with the last one is the choice among equals open.
        wide = min(k + 1, int(np.count_nonzero(accessible)))
        scores, ids = self._index.search(query, wide, params=faiss.SearchParameters(sel=selector))
        best = Hits(ids[0], scores[0])
        if wide > k and best.scores[k] == best.scores[k - 1]:
            best = self._at_least(query, best.scores[k], selector)
        order = np.lexsort((best.ids, -best.scores))[:k]
        return Hits(best.ids[order], best.scores[order])

    def _at_least(self, query: Vectors, score: np.float32, selector: "faiss.IDSelector") -> Hits:
        below = float(np.nextafter(score, np.float32(-np.inf)))
        _, scores, ids = self._index.range_search(query, below, params=faiss.SearchParameters(sel=selector))
        return Hits(ids, scores)

    @staticmethod
    def _selector(accessible: PremiseMask) -> "faiss.IDSelector":
        return faiss.IDSelectorBitmap(np.packbits(accessible, bitorder="little"))
