"""The embeddings of one segment, and the form of a search and its answer.

A score is the float32 inner product as `inner_products` computes it, whichever path finds the premise. The rounded
embeddings only tell, with proof, which premises can be among the best. So an answer has the same bytes as if every
accessible premise were scored, and a text has the same score as an indexed premise and as a new one.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from api.search.premise_set import PremiseSet
from api.search.quantised_index import QuantisedIndex, quantise
from shared.vectors import Vector, Vectors

PremiseIds = NDArray[np.int64]


@dataclass(frozen=True)
class Search:
    """Asks for the k best premises for a state, [d], among the accessible ones."""

    state: Vector
    accessible: PremiseSet
    k: int


@dataclass(frozen=True)
class Hits:
    """The answer to a search: best first, equal scores by premise id."""

    ids: PremiseIds
    scores: Vector
    widened: bool = False
    """True if the first scan did not prove the answer, and blocks were read again."""


class PremiseIndex:
    """Embeddings of one segment by row. A search reads them through `parts`, also while another thread closes it."""

    def __init__(self, rows: Vectors, quantised: QuantisedIndex) -> None:
        self.count = len(rows)
        """Rows."""
        self._parts: tuple[Vectors, QuantisedIndex] | None = (rows, quantised)

    @classmethod
    def of(cls, rows: Vectors) -> "PremiseIndex":
        """An index in memory, of rows [n, d]."""
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        return cls(rows, QuantisedIndex(*quantise(rows)))

    def parts(self) -> tuple[Vectors, QuantisedIndex]:
        """The rows in float32, [count, d], and rounded. Their memory stays as long as somebody holds them.

        Raises:
            ValueError: the index is closed.
        """
        if self._parts is None:
            raise ValueError("the index is closed")
        return self._parts

    def rows(self, ids: PremiseIds) -> Vectors:
        """A copy of some rows, [len(ids), d]."""
        picked: Vectors = self.parts()[0][ids]
        return picked

    def close(self) -> None:
        """Release the memory. Searches that run now keep it until they end; later ones fail."""
        self._parts = None


def inner_products(state: Vector, rows: Vectors, ids: PremiseIds) -> Vector:
    """Scores [len(ids)] of those rows of [n, d] with the state, in float32.

    FAISS's kernel for one pair of vectors, on each row where it lies: nothing is copied, and a row's sum does not
    depend on the rows beside it, as it does in a matrix product.
    """
    scores = np.empty(len(ids), np.float32)
    pointers = [faiss.swig_ptr(array) for array in (scores, state, rows, ids)]
    faiss.fvec_inner_products_by_idx(*pointers, rows.shape[1], 1, len(ids))
    return scores


def rows_of(flat: "faiss.IndexFlatIP") -> Vectors:
    """The rows of a flat index, [n, d], read-only and where they lie. The array keeps the index alive."""
    rows: Vectors = np.asarray(_Rows(flat))
    return rows


class _Rows:
    """Tells numpy where the rows lie; numpy holds this object as the owner of the memory."""

    def __init__(self, flat: "faiss.IndexFlatIP") -> None:
        self._flat = flat
        first = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
        self.__array_interface__ = {
            "shape": (flat.ntotal, flat.d),
            "typestr": first.dtype.str,
            "data": (first.ctypes.data, True),
            "version": 3,
        }
