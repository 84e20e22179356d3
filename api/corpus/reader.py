"""Reads an unpacked data archive: filters its declarations and numbers them as clients and stored rows do."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.corpus.declaration import Declaration
from shared.errors import StartupError

# fmt: off
MODULE_COMPONENTS = frozenset({
    "Aesop", "Auto", "Cli", "CodeAction", "DocGen4", "Duper", "ImportGraph", "Lake", "Lean", "LeanSearchClient",
    "Linter", "Mathport", "MD4Lean", "Plausible", "ProofWidgets", "Qq", "QuerySMT", "Tactic", "TacticExtra", "Test",
    "Testing", "UnicodeBasic", "Util",
})
# fmt: on
"""A module with one of these components holds tooling, not mathematics."""
NAME_COMPONENTS = frozenset({"Lean", "Lake", "Qq"})
TYPE_PREFIX = "Lean."


@dataclass(frozen=True)
class ReadCorpus:
    """A data archive, read and filtered. n premises, w declarations, m modules."""

    revision: str
    module_names: list[str]
    """Sorted. Length m."""
    wire_names: list[str]
    """Every declaration, in data order, duplicates kept. Length w."""
    declarations: list[Declaration]
    """The premises, by premise id. Length n."""
    wire_premise: NDArray[np.int64]
    """Premise id of a wire index, -1 if the filter removed that name. [w]"""
    module_start: NDArray[np.int64]
    """Premises of module i are module_start[i]:module_stop[i]: a module is one file, so its ids are contiguous. [m]"""
    module_stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.declarations)

    @property
    def names(self) -> list[str]:
        """By premise id. Length n."""
        return [d.name for d in self.declarations]

    @property
    def premise_ids(self) -> dict[str, int]:
        """By name."""
        return {d.name: i for i, d in enumerate(self.declarations)}

    @property
    def texts(self) -> list[str]:
        """The texts that are embedded, by premise id. Length n."""
        return [d.text for d in self.declarations]

    @property
    def needs_import_all(self) -> NDArray[np.bool_]:
        """Premises that a caller in the module system sees only after `import all`. [n]"""
        return np.fromiter((needs_import_all(d) for d in self.declarations), np.bool_, len(self))


class _Module(msgspec.Struct):
    name: str


class _Blacklist(msgspec.Struct, rename={"names": "hammerBlacklist"}):
    names: frozenset[str]


Row = TypeVar("Row")


def read_corpus(files: Mapping[str, bytes]) -> ReadCorpus:
    """The corpus of an unpacked data archive.

    Raises:
        StartupError: a file is missing, or a line is malformed; the sentence names both.
    """
    listed: set[str] = set()
    for number, module in _rows(files, "Modules.jsonl", _Module):
        if module.name in listed:
            raise StartupError(f"Modules.jsonl line {number}: {module.name} is listed a second time.")
        listed.add(module.name)
    module_names = sorted(listed)
    module_ids = {name: i for i, name in enumerate(module_names)}
    blacklist = frozenset[str]().union(*(b.names for _, b in _rows(files, "HammerBlacklist.jsonl", _Blacklist)))

    kept: list[Declaration] = []
    premise_ids: dict[str, int] = {}
    wire_names: list[str] = []
    module_start = np.zeros(len(module_names), np.int64)
    module_stop = np.zeros(len(module_names), np.int64)
    for file in sorted(f for f in files if f.startswith("Declarations/") and f.endswith(".jsonl")):
        name = file.removeprefix("Declarations/").removesuffix(".jsonl")
        if name not in module_ids:
            raise StartupError(f"{file}: its module is not listed in Modules.jsonl.")
        module_start[module_ids[name]] = len(kept)
        module_is_premises = MODULE_COMPONENTS.isdisjoint(name.split("."))
        for _, declaration in _rows(files, file, Declaration):
            wire_names.append(declaration.name)
            if module_is_premises and is_premise(declaration, blacklist) and declaration.name not in premise_ids:
                premise_ids[declaration.name] = len(kept)
                kept.append(declaration)
        module_stop[module_ids[name]] = len(kept)
    if not kept:
        raise StartupError("The data archive holds no premise that passes the filter.")
    return ReadCorpus(
        revision=files.get("revision", b"").decode(errors="replace").strip(),
        module_names=module_names,
        wire_names=wire_names,
        declarations=kept,
        # By name, not by row: a client that maps names to positions may hold any of a duplicate's positions.
        wire_premise=np.fromiter((premise_ids.get(name, -1) for name in wire_names), np.int64, len(wire_names)),
        module_start=module_start,
        module_stop=module_stop,
    )


def is_premise(declaration: Declaration, blacklist: frozenset[str]) -> bool:
    """The filter, but for its rules on modules and on names seen before."""
    return (
        declaration.name not in blacklist
        and NAME_COMPONENTS.isdisjoint(declaration.name.split("."))
        and not declaration.type.startswith(TYPE_PREFIX)
    )


def needs_import_all(declaration: Declaration) -> bool:
    """Whether a caller in the module system sees the declaration only after `import all` of its module."""
    return declaration.in_module_system and declaration.kind != "theorem" and not declaration.is_exposed


def _rows(files: Mapping[str, bytes], name: str, kind: type[Row]) -> Iterator[tuple[int, Row]]:
    """Line number and content of each line of a .jsonl file; blank lines are passed over."""
    if name not in files:
        raise StartupError(f"The data archive has no {name}.")
    decoder = msgspec.json.Decoder(kind)
    for number, line in _lines(files[name]):
        try:
            yield number, decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StartupError(f"{name} line {number}: {error}.") from None


def _lines(content: bytes) -> Iterable[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip())
