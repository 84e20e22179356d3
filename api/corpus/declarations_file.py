"""Declarations as a person reads them, by premise id: too many for the memory of every process, so they stay in a file.

`declarations.jsonl` holds one a line, just as it is answered; `declarations.npy` where each line starts, and its end.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.corpus.reader import ReadCorpus

LINES = "declarations.jsonl"
STARTS = "declarations.npy"


class ShownDeclaration(msgspec.Struct, frozen=True):
    """One entry of the answer of `POST /declarations`."""

    name: str
    kind: str
    module: str
    args: list[str]
    type: str
    doc: str | None


@dataclass(frozen=True)
class Declarations:
    """The file, mapped: what is not asked for takes no memory, what is asked for is shared by all processes."""

    lines: mmap.mmap
    starts: NDArray[np.int64]
    """Byte at which each line starts, then the file's length. [n + 1]"""
    premise_ids: Mapping[str, int]

    @classmethod
    def load(cls, directory: Path, premise_ids: Mapping[str, int]) -> "Declarations":
        with (directory / LINES).open("rb") as file:
            lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return cls(lines, np.load(directory / STARTS, mmap_mode="r", allow_pickle=False), premise_ids)

    def answer(self, names: Sequence[str]) -> bytes:
        """JSON array of the declarations of these names, `null` for a name that is no premise's.

        Pages that nobody asked for before come from the disk: not for the event loop.
        """
        return b"[" + b",".join(map(self._entry, names)) + b"]"

    def _entry(self, name: str) -> bytes:
        premise_id = self.premise_ids.get(name)
        if premise_id is None:
            return b"null"
        return self.lines[int(self.starts[premise_id]) : int(self.starts[premise_id + 1]) - 1]


def save_declarations(directory: Path, corpus: ReadCorpus) -> None:
    """Write the file of a corpus that was just built.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    starts = np.zeros(len(corpus) + 1, np.int64)
    with (directory / LINES).open("wb") as file:
        for i, shown in enumerate(_shown(corpus), 1):
            starts[i] = starts[i - 1] + file.write(msgspec.json.encode(shown) + b"\n")
    np.save(directory / STARTS, starts)


def _shown(corpus: ReadCorpus) -> Iterator[ShownDeclaration]:
    """By premise id, which goes by file name; modules have the same order but where one's name begins another's."""
    for module in np.argsort(corpus.module_start, kind="stable").tolist():
        if module and corpus.module_names[module] == corpus.module_names[module - 1]:
            continue  # listed twice
        for d in corpus.declarations[corpus.module_start[module] : corpus.module_stop[module]]:
            yield ShownDeclaration(d.name, d.kind, corpus.module_names[module], d.args, d.type, d.doc)
