"""Which premises a request may be answered with, as a boolean array over premise ids."""

import numpy as np
from numpy.typing import NDArray

from api.corpus import Corpus
from api.request import Names

PremiseMask = NDArray[np.bool_]


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
