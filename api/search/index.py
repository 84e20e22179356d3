"""Exact inner-product search over subsets of the premises, with FAISS.

A score is the float32 inner product as `inner_products` computes it, whatever path found the premise. The
quantised index only says which premises can be among the best, with proof; so the answer is the same bytes as scoring
every accessible premise, and a text scores the same as indexed and as new premise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import faiss
import numpy as np
from numpy.typing import NDArray

from api.search.premise_set import PremiseSet
from api.search.quantised_index import BLOCK, Candidates, QuantisedIndex, quantise
from shared.vectors import Vector, Vectors

PremiseIds = NDArray[np.int64]

SUM_ERROR = 1e-5
"""Two float32 sums of 768 products of unit vectors differ by less: each is off by at most d/16 * 2^-24 * 2."""
LEAST_CANDIDATES = 64
"""Of a block; fewer save nothing, and leave more blocks to be scanned again."""
CANDIDATES_PER_K = 8
"""Of all blocks together."""
SECOND_TIME = 8
"""So many times the candidates, where the first scan of a block did not prove enough."""


@dataclass(frozen=True)
class Search:
    """A question to the index: the k best for a state, [d], among the accessible premises."""

    state: Vector
    accessible: PremiseSet
    k: int


@dataclass(frozen=True)
class Hits:
    """Best first; equal scores by premise id."""

    ids: PremiseIds
    scores: Vector
    widened: bool = False
    """Whether the first scan did not prove them, and blocks were read again."""


def inner_products(state: Vector, rows: Vectors, ids: PremiseIds) -> Vector:
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
        self._flat = flat  # owns the rows
        self._rows: Vectors = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
        self._quantised = quantised

    @classmethod
    def of(cls, rows: Vectors) -> "PremiseIndex":
        """An index in memory, of rows [n, d]."""
        flat = faiss.IndexFlatIP(rows.shape[1])
        flat.add(np.ascontiguousarray(rows, dtype=np.float32))
        return cls(flat, QuantisedIndex(*quantise(rows)))

    def rows(self, ids: PremiseIds) -> Vectors:
        """Embeddings by premise id, [len(ids), d]."""
        picked: Vectors = self._rows[ids]
        return picked

    def __len__(self) -> int:
        return int(self._flat.ntotal)

    def search(self, searches: Sequence[Search]) -> list[Hits]:
        """The answer to each. Together they take less time than one by one: a block is brought from memory once."""
        scans = [_Scan(search, self._rows, self._quantised) for search in searches]
        for block in range(len(self._quantised.blocks)):
            for scan in scans:
                scan.read(block)
        return [scan.hits() for scan in scans]


class _Scan:
    """One search on its way through the blocks."""

    def __init__(self, search: Search, rows: Vectors, quantised: QuantisedIndex) -> None:
        self._search = search
        self._rows = rows
        self._quantised = quantised
        self._query = quantised.query(search.state)
        self._counts = search.accessible.counts(BLOCK).tolist()
        self._k = min(search.k, search.accessible.count)
        blocks = max(1, sum(count > 0 for count in self._counts))
        self._most = max(LEAST_CANDIDATES, -(-CANDIDATES_PER_K * self._k // blocks))
        self._few: list[PremiseIds] = []
        """All accessible premises of blocks that have few."""
        self._found: dict[int, Candidates] = {}
        """The likeliest of those that have more, by block."""

    def read(self, block: int) -> None:
        count = self._counts[block] if self._k > 0 else 0
        if count == 0:
            return
        if count <= self._most:
            self._few.append(self._accessible(block))
        else:
            self._found[block] = self._candidates(block, self._most)

    def hits(self) -> Hits:
        """Once every block was read."""
        least = self._least()
        possible = list(self._few)
        widened = False
        for block, found in self._found.items():
            if found.at_most[-1] >= least:  # so may a premise that was left out
                widened = True
                found = self._candidates(block, min(SECOND_TIME * self._most, self._counts[block]))
            whole = found.at_most[-1] >= least and len(found.ids) < self._counts[block]
            possible.append(self._accessible(block) if whole else found.ids[found.at_most >= least])
        ids = np.sort(np.concatenate([np.empty(0, np.int64), *possible]))  # in the order of memory
        return replace(self._scored(ids), widened=widened)

    def _least(self) -> float:
        """What each of the k best scores at least: as much as the k likeliest do."""
        ids = np.concatenate([np.empty(0, np.int64), *(found.ids for found in self._found.values())])
        at_most = np.concatenate([np.empty(0), *(found.at_most for found in self._found.values())])
        likely = ids[np.argpartition(-at_most, self._k - 1)[: self._k]] if len(ids) > self._k > 0 else ids
        known = self._scored(np.concatenate([likely, *self._few]))
        return float(known.scores[-1]) - SUM_ERROR if len(known.ids) == self._k > 0 else -np.inf

    def _candidates(self, block: int, count: int) -> Candidates:
        selector = self._search.accessible.selector(self._quantised.blocks[block])
        return self._quantised.best(block, self._query, selector, count)

    def _scored(self, ids: PremiseIds) -> Hits:
        """The k best of those ids."""
        scores = inner_products(self._search.state, self._rows, ids)
        order = np.lexsort((ids, -scores))[: self._k]
        return Hits(ids[order], scores[order])

    def _accessible(self, block: int) -> PremiseIds:
        return self._search.accessible.ids(self._quantised.blocks[block])
