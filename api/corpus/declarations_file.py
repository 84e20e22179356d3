"""Declarations as a person reads them. They are too many for the memory of every process, so they stay in files.

A segment's `declarations.jsonl` holds one a line, as it is answered. `declarations.npy` holds the byte at which each
line starts, and the file's length.
"""

import mmap
from bisect import bisect_right
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


class DeclarationsFile:
    """One segment's file, mapped: what is not asked for takes no memory, what is asked for all processes share."""

    def __init__(self, directory: Path) -> None:
        with (directory / LINES).open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        # Byte at which each line starts, then the file's length. [n + 1]
        self._starts: NDArray[np.int64] = np.load(directory / STARTS, mmap_mode="r", allow_pickle=False)

    def entry(self, row: int) -> bytes:
        """The declaration of a row as JSON.

        Raises:
            IndexError, ValueError: the file is closed.
        """
        return self._lines[int(self._starts[row]) : int(self._starts[row + 1]) - 1]

    def close(self) -> None:
        """Release the maps."""
        self._starts = np.empty(0, np.int64)
        self._lines.close()


@dataclass(frozen=True)
class Declarations:
    """The declarations of one or several segments."""

    files: Sequence[DeclarationsFile]
    ranges: Sequence[range]
    """Premise ids of each file."""
    premise_ids: Mapping[str, int]

    def answer(self, names: Sequence[str]) -> bytes:
        """JSON array of the declarations of these names, `null` for a name that is no premise's.

        Pages that nobody asked for before come from the disk: not for the event loop.
        """
        ids = map(self.premise_ids.get, names)
        return b"[" + b",".join([b"null" if i is None else self.entry(i) for i in ids]) + b"]"

    def entry(self, premise_id: int) -> bytes:
        """The declaration of a premise as JSON."""
        at = bisect_right(self.ranges, premise_id, key=lambda ids: ids.start) - 1
        return self.files[at].entry(premise_id - self.ranges[at].start)


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
