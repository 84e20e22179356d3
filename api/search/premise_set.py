"""A set of premise ids, as the bits that FAISS reads."""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

PremiseMask = NDArray[np.bool_]
"""One entry a premise id, [n]."""


@dataclass(frozen=True)
class PremiseSet:
    """Premise ids. A set never changes: searches in other threads may be reading it."""

    bits: NDArray[np.uint8]
    """Bit i % 8 of byte i // 8 is premise id i, the order FAISS reads."""
    count: int

    @classmethod
    def of(cls, mask: PremiseMask) -> "PremiseSet":
        return cls(np.packbits(mask, bitorder="little"), int(np.count_nonzero(mask)))

    def ids(self, among: range) -> NDArray[np.int64]:
        """The ids within a range that starts at a multiple of eight; ascending."""
        bits = np.unpackbits(self._bits(among), count=len(among), bitorder="little")
        return np.flatnonzero(bits) + among.start

    def selector(self, among: range) -> "faiss.IDSelector":
        """FAISS's selector of the ids within a range that starts at a multiple of eight, counted from its start."""
        return faiss.IDSelectorBitmap(self._bits(among))

    def counts(self, block: int) -> NDArray[np.int64]:
        """The number of ids in each block of `block` ids, a multiple of eight."""
        starts = np.arange(0, len(self.bits), block // 8)
        return np.add.reduceat(np.bitwise_count(self.bits), starts, dtype=np.int64)

    def without(self, ids: NDArray[np.int64]) -> "PremiseSet":
        """The set less some ids, each named once."""
        present = ids[(self.bits[ids >> 3] >> (ids & 7)) & 1 == 1]
        if not len(present):
            return self
        bits = self.bits.copy()
        np.bitwise_and.at(bits, present >> 3, ~(1 << (present & 7)).astype(np.uint8))
        return PremiseSet(bits, self.count - len(present))

    def _bits(self, among: range) -> NDArray[np.uint8]:
        return self.bits[among.start >> 3 : -(-among.stop // 8)]
