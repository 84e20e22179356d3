"""Exact inner-product search over a subset of the premises, with FAISS.

A score is the float32 inner product as `inner_products` computes it, whatever path found the premise. The
quantised index only says which premises can be among the best, with proof; so the answer is the same bytes as scoring
every accessible premise, and a text scores the same as indexed and as new premise.
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
GATHER_SHARE = 0.02
"""Up to this share of accessible premises, reading exactly those rows is as fast as scanning in eight bits."""
LEAST_CANDIDATES = 1_024
"""Of the first scan. Fewer save little of its time and are certified less often (docs/benchmarks.md)."""
CANDIDATES_PER_K = 4
MOST_CANDIDATES = 16_384
"""Of the second scan, for queries whose best scores lie close together."""


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
        """Searches whose answer a scan proved; for the metrics."""
        self.widened = 0
        """Searches that had to collect every candidate that could not be ruled out."""

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
            return self._best(state, accessible.ids(), k)
        selector = accessible.selector()
        for wanted in (max(LEAST_CANDIDATES, CANDIDATES_PER_K * k), MOST_CANDIDATES):
            ids, rest_at_most = self._quantised.best(state, selector, min(wanted, accessible.count))
            hits = self._best(state, np.sort(ids), k)  # in the order of memory: twice as fast
            if len(ids) == accessible.count or hits.scores[-1] > rest_at_most + SUM_ERROR:
                self.certified += 1
                return hits
        # Too many score almost the same. Those that can be better than the last hit lie above it, less the error; to
        # collect them all is several times slower, because FAISS does it row by row.
        self.widened += 1
        ids = self._quantised.at_least(state, selector, float(hits.scores[-1]) - SUM_ERROR)
        return self._best(state, ids, k)

    def _best(self, state: Vector, ids: NDArray[np.int64], k: int) -> Hits:
        scores = inner_products(state, self._rows, ids)
        order = np.lexsort((ids, -scores))[:k]
        return Hits(ids[order], scores[order])
