"""Which premises a request may be answered with: sets of premise ids, remembered by how they were asked for."""

import asyncio
from dataclasses import dataclass

import faiss
import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from api.corpus.reader import Corpus
from api.retrieval.context import Context, Names, read_names

PremiseMask = NDArray[np.bool_]

REMEMBERED = 256
"""Sets kept: 12 MB at 382,212 premises. Editors ask with the same imports again and again."""


@dataclass(frozen=True)
class Accessible:
    """A set of premise ids below `size`. Never changed: searches in other threads may be reading it."""

    bits: NDArray[np.uint8]
    """Bit i % 8 of byte i // 8 is premise id i, the order FAISS reads."""
    count: int
    size: int

    @classmethod
    def of(cls, mask: PremiseMask) -> "Accessible":
        return cls(np.packbits(mask, bitorder="little"), int(np.count_nonzero(mask)), len(mask))

    def ids(self, among: range) -> NDArray[np.int64]:
        """Those in a range that starts at a multiple of eight; ascending."""
        bits = np.unpackbits(self._bits(among), count=len(among), bitorder="little")
        return np.flatnonzero(bits) + among.start

    def selector(self, among: range) -> "faiss.IDSelector":
        """Of a range that starts at a multiple of eight, counted from its start."""
        return faiss.IDSelectorBitmap(self._bits(among))

    def counts(self, block: int) -> NDArray[np.int64]:
        """How many are in each block of `block` ids, a multiple of eight."""
        starts = np.arange(0, len(self.bits), block // 8)
        return np.add.reduceat(np.bitwise_count(self.bits), starts, dtype=np.int64)

    def without(self, ids: NDArray[np.int64]) -> "Accessible":
        """The set less some ids, each named once."""
        present = ids[(self.bits[ids >> 3] >> (ids & 7)) & 1 == 1]
        if not len(present):
            return self
        bits = self.bits.copy()
        np.bitwise_and.at(bits, present >> 3, ~(1 << (present & 7)).astype(np.uint8))
        return Accessible(bits, self.count - len(present), self.size)

    def _bits(self, among: range) -> NDArray[np.uint8]:
        return self.bits[among.start >> 3 : -(-among.stop // 8)]


class AccessibleSets:
    """The accessible sets of one corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._sets: LRUCache[bytes, Accessible] = LRUCache(REMEMBERED)

    async def of(self, context: Context) -> Accessible:
        """What the request may be answered with, before its new premises override any.

        Raises:
            BadInput: one of the lists is malformed.
        """
        key = _key(context)
        known = self._sets.get(key)
        if known is None:
            known = Accessible.of(await asyncio.to_thread(accessible_mask, self._corpus, context))
            self._sets[key] = known
        return known


def accessible_mask(corpus: Corpus, context: Context) -> PremiseMask:
    """What is accessible, less what is not visible if the caller is in the module system."""
    mask = accessible_premises(corpus, read_names(context.imported_modules), read_names(context.local_premises))
    imported_all = read_names(context.imported_all_modules)  # also where it changes nothing: a malformed one is refused
    return mask & visible_premises(corpus, imported_all) if context.caller_in_module_system else mask


def accessible_premises(corpus: Corpus, imported_modules: Names | None, local_premises: Names | None) -> PremiseMask:
    """Premises of the imported modules and the local ones; all if neither list is given."""
    if imported_modules is None and local_premises is None:
        return np.ones(len(corpus), np.bool_)
    mask = _premises_of(corpus, imported_modules or ())
    mask[premise_ids(corpus, local_premises or ())] = True
    return mask


def visible_premises(corpus: Corpus, imported_all_modules: Names | None) -> PremiseMask:
    """What a caller in the module system may see, whatever it imports."""
    return ~corpus.needs_import_all | _premises_of(corpus, imported_all_modules or ())


def module_ids(corpus: Corpus, modules: Names) -> NDArray[np.int64]:
    """Modules by name (`Nat/Basic.lean` is `Nat.Basic`) or position; what is unknown is left out."""
    ids = np.array(
        [corpus.module_ids.get(module_name(m), -1) if isinstance(m, str) else _position(m) for m in modules],
        np.int64,
    )
    return ids[(ids >= 0) & (ids < len(corpus.module_names))]


def premise_ids(corpus: Corpus, premises: Names) -> NDArray[np.int64]:
    """Premises by name or wire index; what is unknown, or was filtered, is left out."""
    wire = np.array([_position(p) for p in premises if isinstance(p, int)], np.int64)
    wire = wire[(wire >= 0) & (wire < len(corpus.wire_names))]
    named = np.array([corpus.premise_ids.get(p, -1) for p in premises if isinstance(p, str)], np.int64)
    ids = np.concatenate([corpus.wire_premise[wire], named])
    return ids[ids >= 0]


def module_name(name: str) -> str:
    return name.removesuffix(".lean").replace("/", ".")


def _premises_of(corpus: Corpus, modules: Names) -> PremiseMask:
    ids = module_ids(corpus, modules)
    # +1 where a module's ids start, -1 where they stop: the running sum marks the ids in between.
    edges = np.zeros(len(corpus) + 1, np.int32)
    np.add.at(edges, corpus.module_start[ids], 1)
    np.add.at(edges, corpus.module_stop[ids], -1)
    mask: PremiseMask = np.cumsum(edges[:-1]) > 0
    return mask


def _position(index: int) -> int:
    """The index, or -1 for one that no array has; numpy refuses integers above 64 bits."""
    return index if 0 <= index < 1 << 62 else -1


def _key(context: Context) -> bytes:
    lists = (context.imported_modules, context.local_premises, context.imported_all_modules)
    return b"".join((*(part.digest for part in lists), bytes([context.caller_in_module_system])))
