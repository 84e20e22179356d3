"""The corpus that is served: names and modules of the premises, and how clients number them.

Two number spaces, kept apart by name: a *wire index* is a position in `/indexed-premises` (all declarations, in
data order, duplicates kept); a *premise id* is a row of the embeddings (declarations that the filter left).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.corpus.reader import ReadCorpus


@dataclass(frozen=True)
class Corpus:
    """The premises of one data revision, read-only. n premises, w declarations, m modules."""

    revision: str
    module_names: list[str]
    """Sorted; `/indexed-modules` answers them."""
    wire_names: list[str]
    """Every declaration; `/indexed-premises` answers them. Length w."""
    names: list[str]
    """By premise id. Length n."""
    wire_premise: NDArray[np.int64]
    """Premise id of a wire index, -1 if the filter removed that name. [w]"""
    module_start: NDArray[np.int64]
    """Premises of module i are module_start[i]:module_stop[i]: a module is one file, so its ids are contiguous. [m]"""
    module_stop: NDArray[np.int64]
    needs_import_all: NDArray[np.bool_]
    """In the module system, neither theorem nor exposed: visible only after `import all`. [n]"""
    module_ids: Mapping[str, int]
    premise_ids: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, read: ReadCorpus) -> "Corpus":
        """The served form of a corpus that was just read."""
        return cls(
            revision=read.revision,
            module_names=read.module_names,
            wire_names=read.wire_names,
            names=read.names,
            wire_premise=read.wire_premise,
            module_start=read.module_start,
            module_stop=read.module_stop,
            needs_import_all=read.needs_import_all,
            module_ids={name: i for i, name in enumerate(read.module_names)},
            premise_ids=read.premise_ids,
        )
