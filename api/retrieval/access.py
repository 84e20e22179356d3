"""Access rules: the set of premises that a request can find, remembered by the bytes of the request's lists."""

import asyncio

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from api.corpus.corpus import Corpus
from api.retrieval.context import Context, Names
from api.search.premise_set import PremiseMask, PremiseSet

REMEMBERED = 256
"""Sets kept: 12 MB at 382,212 premises. Editors ask with the same imports again and again."""


class AccessibleSets:
    """The accessible sets of one corpus: a release whose segments change has another corpus, and other sets."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._sets: LRUCache[bytes, PremiseSet] = LRUCache(REMEMBERED)

    async def of(self, context: Context) -> PremiseSet:
        """The premises that the request can find, before its new premises override any.

        Raises:
            BadInput: one of the lists is malformed.
        """
        key = _key(context)
        known = self._sets.get(key)
        if known is None:
            known = PremiseSet.of(await asyncio.to_thread(accessible_mask, self._corpus, context))
            self._sets[key] = known
        return known


def accessible_mask(corpus: Corpus, context: Context) -> PremiseMask:
    """Accessible premises; if the caller is in the module system, only those that it sees."""
    mask = accessible_premises(corpus, context.imported_modules.read(), context.local_premises.read())
    imported_all = context.imported_all_modules.read()  # also where it changes nothing: a malformed one is refused
    return mask & visible_premises(corpus, imported_all) if context.caller_in_module_system else mask


def accessible_premises(corpus: Corpus, imported_modules: Names | None, local_premises: Names | None) -> PremiseMask:
    """Premises of the imported modules and the local ones; all if neither list is given."""
    if imported_modules is None and local_premises is None:
        return corpus.served
    mask = _premises_of(corpus, imported_modules or ()) & corpus.served
    mask[premise_ids(corpus, local_premises or ())] = True
    return mask


def visible_premises(corpus: Corpus, imported_all_modules: Names | None) -> PremiseMask:
    """Premises that a caller in the module system may see, whatever modules it imports."""
    return ~corpus.needs_import_all | _premises_of(corpus, imported_all_modules or ())


def module_ids(corpus: Corpus, modules: Names) -> NDArray[np.int64]:
    """Modules by name (`Nat/Basic.lean` is `Nat.Basic`) or position; unknown ones are left out."""
    ids = np.array(
        [corpus.module_ids.get(module_name(m), -1) if isinstance(m, str) else _position(m) for m in modules],
        np.int64,
    )
    return ids[(ids >= 0) & (ids < len(corpus.module_names))]


def premise_ids(corpus: Corpus, premises: Names) -> NDArray[np.int64]:
    """Premises by name or wire index; unknown and filtered ones are left out."""
    wire = np.array([_position(p) for p in premises if isinstance(p, int)], np.int64)
    wire = wire[(wire >= 0) & (wire < len(corpus.wire_names))]
    named = np.array([corpus.premise_ids.get(p, -1) for p in premises if isinstance(p, str)], np.int64)
    ids = np.concatenate([corpus.wire_premise[wire], named])
    return ids[ids >= 0]


def module_name(name: str) -> str:
    return name.removesuffix(".lean").replace("/", ".")


def _premises_of(corpus: Corpus, modules: Names) -> PremiseMask:
    ids = module_ids(corpus, modules)
    # +1 where a module's ids start in a segment, -1 where they stop: the running sum marks the ids in between.
    edges = np.zeros(len(corpus.served) + 1, np.int32)
    np.add.at(edges, corpus.module_start[:, ids], 1)
    np.add.at(edges, corpus.module_stop[:, ids], -1)
    mask: PremiseMask = np.cumsum(edges[:-1]) > 0
    return mask


def _position(index: int) -> int:
    """The index, or -1 for one that no array has; numpy refuses integers above 64 bits."""
    return index if 0 <= index < 1 << 62 else -1


def _key(context: Context) -> bytes:
    lists = (context.imported_modules, context.local_premises, context.imported_all_modules)
    return b"".join((*(part.digest for part in lists), bytes([context.caller_in_module_system])))
