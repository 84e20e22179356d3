"""The premises in eight bits a dimension: a scan of a quarter of the bytes, with a proven bound on its error.

Rows are centred and rotated before they are rounded. Centring adds the same number to every score of one query, so the
order stays; the rotation spreads a row's length over its dimensions, so that rounding all of them with one step loses
little. With x = mu + R'y and y ~ s * c (c whole numbers within +-127), and R q ~ t * z likewise,

    q.x = q.mu + (R q).y  ~  q.mu + s * t * (z.c)

and the difference is at most  |q| * max|y - s c|  +  |R q - t z| * max|s c|  (Cauchy-Schwarz on either rounding).
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]

LEVELS = 127
ROWS_AT_A_TIME = 16_384
HEADROOM = 1.05
"""Over the largest component of a sample; the few rows beyond are clipped, and the error bound includes that."""


@dataclass(frozen=True)
class Rounding:
    """How rows became whole numbers."""

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


class QuantisedIndex:
    """Finds candidates for a search; the exact index decides among them."""

    def __init__(self, index: "faiss.IndexScalarQuantizer", rounding: Rounding) -> None:
        self._index = index
        self._rounding = rounding

    def best(self, state: Vector, selector: "faiss.IDSelector", count: int) -> tuple[NDArray[np.int64], float]:
        """Premise ids of the `count` best by rounded score among the selected, and how high any other can score."""
        query = self._rounded(state)
        scores, ids = self._index.search(query.whole, count, params=faiss.SearchParameters(sel=selector))
        found = ids[0] >= 0
        rest_at_most = query.centre + query.step * float(scores[0, -1]) + query.error if found.all() else -np.inf
        return ids[0][found], rest_at_most

    def at_least(self, state: Vector, selector: "faiss.IDSelector", score: float) -> NDArray[np.int64]:
        """Premise ids of the selected that may score at least `score`; every one that does is among them."""
        query = self._rounded(state)
        # range_search returns what is strictly above; scores are whole numbers.
        threshold = np.ceil((score - query.error - query.centre) / query.step) - 1
        _, _, ids = self._index.range_search(query.whole, float(threshold), params=faiss.SearchParameters(sel=selector))
        return np.sort(ids)

    def _rounded(self, state: Vector) -> "_Query":
        rounding = self._rounding
        rotated = rounding.rotation @ state
        step = float(np.abs(rotated).max()) / LEVELS or 1.0
        # faiss cuts a query's fractions off, so it gets none.
        whole = np.rint(rotated / step)
        off = float(np.linalg.norm(rotated - step * whole))
        return _Query(
            whole=whole.reshape(1, -1),
            step=step * rounding.step,
            centre=float(state @ rounding.mean),
            error=float(np.linalg.norm(state)) * rounding.row_error + off * rounding.row_length,
        )


@dataclass(frozen=True)
class _Query:
    """A state as the rounded rows are asked for it: score = centre + step * (whole . row) +- error."""

    whole: Vectors
    step: float
    centre: float
    error: float


def quantise(rows: Vectors) -> tuple["faiss.IndexScalarQuantizer", Rounding]:
    """Index and rounding of rows, shape [n, d]. Reads them three times, a part at a time."""
    count, dimension = rows.shape
    mean = _mean(rows)
    # Fixed seed: every process that builds gets the same bytes.
    random = np.random.default_rng(0).standard_normal((dimension, dimension))
    rotation = np.ascontiguousarray(np.linalg.qr(random)[0], dtype=np.float32)
    sample = (rows[:: max(1, count // ROWS_AT_A_TIME)] - mean) @ rotation.T
    step = HEADROOM * float(np.abs(sample).max()) / LEVELS or 1.0
    index = faiss.IndexScalarQuantizer(
        dimension, faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
    )
    row_error = row_length = 0.0
    for start in range(0, count, ROWS_AT_A_TIME):
        centred = (rows[start : start + ROWS_AT_A_TIME] - mean) @ rotation.T
        whole = np.clip(np.rint(centred / step), -LEVELS, LEVELS)
        index.add(whole)
        row_error = max(row_error, float(np.linalg.norm(centred - step * whole, axis=1).max()))
        row_length = max(row_length, float(np.linalg.norm(step * whole, axis=1).max()))
    return index, Rounding(mean, rotation, step, row_error + ROTATION_ERROR, row_length)


ROTATION_ERROR = 1e-5
"""float32 rotation and means are themselves rounded; far above d * 2^-24 times a unit vector's length."""


def _mean(rows: Vectors) -> Vector:
    total = np.zeros(rows.shape[1], np.float64)
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        total += rows[start : start + ROWS_AT_A_TIME].sum(axis=0, dtype=np.float64)
    mean: Vector = (total / max(len(rows), 1)).astype(np.float32)
    return mean
