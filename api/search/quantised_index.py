"""The premises in eight bits a dimension: a scan of a quarter of the bytes, with a proven bound on its error.

Rows are centred and rotated before they are rounded. Centring adds the same number to every score of one query, so the
order stays; the rotation spreads a row's length over its dimensions, so that rounding all of them with one step loses
little. With x = mu + R'y and y ~ s * c (c whole numbers within +-127), and R q ~ t * z likewise,

    q.x = q.mu + (R q).y  ~  q.mu + s * t * (z.c)

and the difference is at most  |q| * max|y - s c|  +  |R q - t z| * max|s c|  (Cauchy-Schwarz on either rounding).

Rows are searched in blocks. A block stays in the processor's cache while several queries read it, and where the bound
does not prove enough, one block is read in float32 instead of all.
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from shared.vectors import Vector, Vectors

LEVELS = 127
BLOCK = 8_192
"""Rows of a block, a multiple of eight: 6 MB at 768 dimensions, within the last cache of a server's processor."""
ROWS_AT_A_TIME = 16_384
HEADROOM = 1.05
"""Over the largest component of a sample; the few rows beyond are clipped, and the error bound includes that."""
ROTATION_ERROR = 1e-5
"""float32 rotation and means are themselves rounded; far above d * 2^-24 times a unit vector's length."""


@dataclass(frozen=True)
class Rounding:
    """The numbers that turn a row into whole numbers, and bounds on the error."""

    mean: Vector
    """[d]"""
    rotation: Vectors
    """Orthogonal, [d, d]."""
    step: float
    row_error: float
    """Largest distance of a row from its rounded one."""
    row_length: float
    """Largest length of a rounded row."""

    def save(self, path: Path) -> None:
        scalars = np.array([self.step, self.row_error, self.row_length], np.float64)
        with path.open("wb") as file:
            np.savez(file, mean=self.mean, rotation=self.rotation, scalars=scalars)

    @classmethod
    def load(cls, path: Path) -> "Rounding":
        with np.load(path, allow_pickle=False) as saved:
            step, row_error, row_length = saved["scalars"].tolist()
            return cls(saved["mean"], saved["rotation"], step, row_error, row_length)


@dataclass(frozen=True)
class RoundedQuery:
    """A state rounded like the rows: score = centre + step * (whole . row) +- error."""

    whole: Vectors
    """[1, d]; whole numbers, because FAISS cuts a query's fractions off."""
    step: float
    centre: float
    error: float


class QuantisedIndex:
    """Finds candidates for a search; the exact rows decide among them."""

    def __init__(self, index: "faiss.IndexScalarQuantizer", rounding: Rounding) -> None:
        self._index = index  # owns the memory that the blocks look into
        self._rounding = rounding
        codes = faiss.rev_swig_ptr(index.codes.data(), index.ntotal * index.d).reshape(index.ntotal, index.d)
        self._blocks = [self._view(codes[start : start + BLOCK]) for start in range(0, index.ntotal, BLOCK)]

    def best(
        self, block: int, query: RoundedQuery, selector: "faiss.IDSelector", count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The `count` rows that score best when rounded, best first, and the highest score that each can have.

        The selector admits at least so many rows. No other row that it admits can score higher than the last. Selector
        and answer count rows from the block's first.
        """
        parameters = faiss.SearchParameters(sel=selector)
        scores, rows = self._blocks[block].search(query.whole, count, params=parameters)
        return rows[0], query.centre + query.step * scores[0].astype(np.float64) + query.error

    def query(self, state: Vector) -> RoundedQuery:
        """Round a state, [d], for any number of calls of `best`."""
        rounding = self._rounding
        rotated = np.empty_like(state)
        # One thread, unlike a matrix product of numpy's: searches run side by side.
        pointers = [faiss.swig_ptr(array) for array in (rotated, state, rounding.rotation)]
        faiss.fvec_inner_products_ny(*pointers, len(state), len(state))
        step = float(np.abs(rotated).max()) / LEVELS or 1.0
        whole = np.rint(rotated / step)
        off = float(np.linalg.norm(rotated - step * whole))
        return RoundedQuery(
            whole=whole.reshape(1, -1),
            step=step * rounding.step,
            centre=float(state @ rounding.mean),
            error=float(np.linalg.norm(state)) * rounding.row_error + off * rounding.row_length,
        )

    def _view(self, codes: NDArray[np.uint8]) -> "faiss.IndexScalarQuantizer":
        block = _empty(codes.shape[1])
        block.codes = faiss.MaybeOwnedVectorUInt8.create_view(
            faiss.swig_ptr(codes), codes.size, self._index.codes.owner
        )
        block.ntotal = len(codes)
        return block


def quantise(rows: Vectors) -> tuple["faiss.IndexScalarQuantizer", Rounding]:
    """Index and rounding of rows, [n, d], at least one. Reads them three times, a part at a time."""
    count, dimension = rows.shape
    mean = _mean(rows)
    # Fixed seed: every process that builds gets the same bytes.
    random = np.random.default_rng(0).standard_normal((dimension, dimension))
    rotation = np.ascontiguousarray(np.linalg.qr(random)[0], dtype=np.float32)
    sample = (rows[:: max(1, count // ROWS_AT_A_TIME)] - mean) @ rotation.T
    step = HEADROOM * float(np.abs(sample).max()) / LEVELS or 1.0
    index = _empty(dimension)
    row_error = row_length = 0.0
    for start in range(0, count, ROWS_AT_A_TIME):
        centred = (rows[start : start + ROWS_AT_A_TIME] - mean) @ rotation.T
        whole = np.clip(np.rint(centred / step), -LEVELS, LEVELS)
        index.add(whole)
        row_error = max(row_error, float(np.linalg.norm(centred - step * whole, axis=1).max()))
        row_length = max(row_length, float(np.linalg.norm(step * whole, axis=1).max()))
    return index, Rounding(mean, rotation, step, row_error + ROTATION_ERROR, row_length)


def _empty(dimension: int) -> "faiss.IndexScalarQuantizer":
    return faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    )


def _mean(rows: Vectors) -> Vector:
    total = np.zeros(rows.shape[1], np.float64)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        total += rows[start : start + ROWS_AT_A_TIME].sum(axis=0, dtype=np.float64)
    mean: Vector = (total / max(len(rows), 1)).astype(np.float32)
    return mean
