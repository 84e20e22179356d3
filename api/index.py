"""Exact inner-product search over a subset of the premises, with FAISS.

A score is the float32 inner product as `inner_products` computes it, whatever path found the premise. Sums in another
order differ in the last bits, so searches propose and `inner_products` decides: the answer is the same bytes for the
quantised scan, the full scan and the gathered scan, and a text scores the same as indexed and as new premise.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from api.accessible import Accessible
from api.quantised_index import QuantisedIndex, quantise

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]

SUM_ERROR = 1e-5
"""Two float32 sums of 768 products of unit vectors differ by less: each is off by at most d/16 * 2^-24 * 2."""
SPARE = 16
"""Proposals beyond k, so that `inner_products` rarely finds one missing."""
GATHER_SHARE = 0.04
"""Below this share of accessible premises, reading exactly those rows beats scanning all of them in eight bits."""
LEAST_CANDIDATES = 256
CANDIDATES_PER_K = 4


@dataclass(frozen=True)
class Hits:
    """Best first; equal scores by premise id."""

    ids: NDArray[np.int64]
    scores: Vector


def inner_products(state: Vector, rows: Vectors, ids: NDArray[np.int64]) -> Vector:
    """Scores [len(ids)] of those rows of [n, d] with the state, in float32.

    FAISS's kernel for one pair of vectors, on each row where it lies: nothing is copied, and a row's sum does not
    depend on the rows beside it, as it does in a matrix product.
    """
    scores = np.empty(len(ids), np.float32)
    pointers = [faiss.swig_ptr(array) for array in (scores, state, rows, ids)]
    faiss.fvec_inner_products_by_idx(*pointers, rows.shape[1], 1, len(ids))
    return scores


class PremiseIndex:
    """Row i is premise id i. Searches may run in many threads at once."""

    def __init__(self, flat: "faiss.IndexFlatIP", quantised: QuantisedIndex) -> None:
        faiss.omp_set_num_threads(1)  # requests run side by side; splitting one gains little
        self._flat = flat
        self._rows: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
        self._quantised = quantised
        self.certified = 0
        """Searches that the quantised scan answered; for the metrics."""
        self.scanned = 0
        """Searches that needed the full scan after it."""

    @classmethod
    def of(cls, rows: Vectors) -> "PremiseIndex":
        """An index in memory, of rows [n, d]."""
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(np.ascontiguousarray(rows, dtype=np.float32))
        return cls(flat, QuantisedIndex(*quantise(rows)))

    def rows(self, ids: NDArray[np.int64]) -> Vectors:
        """Embeddings by premise id, [len(ids), d]."""
        picked: Vectors = self._rows[ids]
        return picked

    def __len__(self) -> int:
        return int(self._flat.ntotal)

    def search(self, state: Vector, accessible: Accessible, k: int) -> Hits:
        """The k premises with the highest scores among the accessible ones."""
        k = min(k, accessible.count)
        if k == 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        if accessible.count <= max(k, GATHER_SHARE * len(self)):
            return self._exact(state, faiss.IDSelectorArray(accessible.ids()), accessible.count, k)
        selector = accessible.selector()
        wanted = min(accessible.count, max(LEAST_CANDIDATES, CANDIDATES_PER_K * k))
        candidates = self._quantised.candidates(state, selector, wanted)
        ids = np.sort(candidates.ids)  # in the order of memory: twice as fast
        hits = self._best(state, ids, k)
        if len(ids) == accessible.count or hits.scores[-1] > candidates.rest_at_most + SUM_ERROR:
            self.certified += 1
            return hits
        self.scanned += 1
        return self._exact(state, selector, accessible.count, k)

    def _exact(self, state: Vector, selector: "faiss.IDSelector", count: int, k: int) -> Hits:
        """The k best of the `count` selected, by `inner_products`."""
        params = faiss.SearchParameters(sel=selector)
        query = state.reshape(1, -1)
        wide = min(count, k + SPARE + k // 8)
        proposed, ids = self._flat.search(query, wide, params=params)
        hits = self._best(state, ids[0], k)
        if wide < count and not hits.scores[-1] > proposed[0, -1] + SUM_ERROR:
            # Some that were not proposed score so close to the last one that only `inner_products` can tell.
            _, _, ids = self._flat.range_search(query, float(hits.scores[-1]) - 2 * SUM_ERROR, params=params)
            return self._best(state, ids, k)
        return hits

    def _best(self, state: Vector, ids: NDArray[np.int64], k: int) -> Hits:
        scores = inner_products(state, self._rows, ids)
        order = np.lexsort((ids, -scores))[:k]
        return Hits(ids[order], scores[order])
