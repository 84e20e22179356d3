"""A set of premise ids, as the bits that FAISS reads."""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

PremiseMask = NDArray[np.bool_]
"""One entry a premise id. [n]"""


@dataclass(frozen=True)
class PremiseSet:
    """A set of premise ids. It never changes: searches in other threads may be reading it.

    A range of ids that a method takes starts at a multiple of eight. It ends at one too, or no id behind it in its last
    byte is in the set.
    """

    bits: NDArray[np.uint8]
    """Bit i % 8 of byte i // 8 is premise id i, the order FAISS reads."""
    count: int

    @classmethod
    def of(cls, mask: PremiseMask) -> "PremiseSet":
        return cls(np.packbits(mask, bitorder="little"), int(np.count_nonzero(mask)))

    def ids(self, among: range) -> NDArray[np.int64]:
        """The ids within a range, ascending."""
        bits = np.unpackbits(self._bits(among), count=len(among), bitorder="little")
        return np.flatnonzero(bits) + among.start

    def selector(self, among: range) -> "faiss.IDSelector":
        """FAISS's selector of the ids within a range, counted from the range's start."""
        return faiss.IDSelectorBitmap(self._bits(among))

    def counts(self, among: range, block: int) -> NDArray[np.int64]:
        """The number of ids in each block of `block` ids, a multiple of eight, of such a range."""
        bits = self._bits(among)
        return np.add.reduceat(np.bitwise_count(bits), np.arange(0, len(bits), block // 8), dtype=np.int64)

    def without(self, ids: NDArray[np.int64]) -> "PremiseSet":
        """The set less some ids; each of them is given once."""
        present = ids[(self.bits[ids >> 3] >> (ids & 7)) & 1 == 1]
        if not len(present):
            return self
        bits = self.bits.copy()
        np.bitwise_and.at(bits, present >> 3, ~(1 << (present & 7)).astype(np.uint8))
        return PremiseSet(bits, self.count - len(present))

    def _bits(self, among: range) -> NDArray[np.uint8]:
        return self.bits[among.start >> 3 : -(-among.stop // 8)]
