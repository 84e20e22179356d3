"""Reads an unpacked data archive: filters its declarations and numbers them as clients and stored rows do."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.corpus.declaration import Declaration, parse_declaration
from shared.errors import StartupError

logger = logging.getLogger(__name__)

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

BOM = b"\xef\xbb\xbf"
REVISION_CHARS = 200
"""Most characters of the file `revision` that are read and shown."""
SHOWN_CHARS = 150
"""Most characters of a name in a sentence."""
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class LeftOut:
    """The end of a declarations file that is not read, because a line before it is blank or malformed."""

    file: str
    line: int
    """Number of the blank or malformed line, from 1."""
    lines: int
    """Lines from there on that are not blank."""
    reason: str


@dataclass(frozen=True)
class ReadCorpus:
    """A data archive, read and filtered. n premises, w declarations, m lines of Modules.jsonl."""

    revision: str
    module_names: list[str]
    """Sorted; a name that is listed twice is here twice. Length m."""
    wire_names: list[str]
    """Every declaration, in data order, duplicates kept. Length w."""
    declarations: list[Declaration]
    """The premises, by premise id. Length n."""
    wire_premise: NDArray[np.int64]
    """Premise id of a wire index, -1 if the filter removed that name. [w]"""
    module_start: NDArray[np.int64]
    """Premises of module i are module_start[i]:module_stop[i]: a module is one file, so its ids are contiguous. [m]"""
    module_stop: NDArray[np.int64]
    filtered: Mapping[str, int] = field(default_factory=dict)
    """Declarations that the filter removed, counted by rule."""
    left_out: tuple[LeftOut, ...] = ()
    """Ends of declarations files that were not read, in data order."""

    def __len__(self) -> int:
        return len(self.declarations)

    @cached_property
    def names(self) -> list[str]:
        """By premise id. Length n."""
        return [d.name for d in self.declarations]

    @cached_property
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


def read_corpus(files: Mapping[str, bytes]) -> ReadCorpus:
    """The corpus of an unpacked data archive.

    A declarations file ends at its first blank or malformed line, because it did for the reader that made the stored
    rows; the log says so, and `left_out` counts what follows.

    Raises:
        StartupError: a file is missing, Modules.jsonl or the blacklist is malformed, or a premise's module is not
            listed; the sentence names file and line.
    """
    module_names = sorted(_module_names(files))
    reading = _Reading(_blacklist(files), dict.fromkeys(module_names, (0, 0)))
    for file in sorted(f for f in files if f.startswith("Declarations/") and f.endswith(".jsonl")):
        reading.read(file, files[file])
    _log(reading.filtered, reading.left_out)
    if not reading.kept:
        raise StartupError(_nothing_left(reading.left_out))
    wire_names, premise_ids, spans = reading.wire_names, reading.premise_ids, reading.spans
    return ReadCorpus(
        revision=_revision(files.get("revision", b"")),
        module_names=module_names,
        wire_names=wire_names,
        declarations=reading.kept,
        # By name, not by row: a client that maps names to positions may hold any of a duplicate's positions.
        wire_premise=np.fromiter((premise_ids.get(name, -1) for name in wire_names), np.int64, len(wire_names)),
        module_start=np.fromiter((spans[name][0] for name in module_names), np.int64, len(module_names)),
        module_stop=np.fromiter((spans[name][1] for name in module_names), np.int64, len(module_names)),
        filtered=reading.filtered,
        left_out=tuple(reading.left_out),
    )


def needs_import_all(declaration: Declaration) -> bool:
    """True if a caller in the module system sees the declaration only after `import all` of its module."""
    return declaration.in_module_system and declaration.kind != "theorem" and not declaration.is_exposed


@dataclass
class _Reading:
    """The declarations files read so far."""

    blacklist: frozenset[str]
    spans: dict[str, tuple[int, int]]
    """First premise id of each listed module, and the one after its last."""
    wire_names: list[str] = field(default_factory=list)
    kept: list[Declaration] = field(default_factory=list)
    premise_ids: dict[str, int] = field(default_factory=dict)
    filtered: Counter[str] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)

    def read(self, file: str, content: bytes) -> None:
        """Read one file. Files come in order of their names."""
        module = file.removeprefix("Declarations/").removesuffix(".jsonl")
        module_rule = _module_rule(module)
        start = len(self.kept)
        declarations, rest = _declarations(file, content)
        self.left_out += rest
        for number, declaration in enumerate(declarations, 1):
            self.wire_names.append(declaration.name)
            if rule := _rule(declaration, self.blacklist, module_rule, self.premise_ids):
                self.filtered[rule] += 1
                continue
            if module not in self.spans:
                raise StartupError(
                    f"{_shown(file)} line {number}: {_shown(declaration.name)} is a premise, "
                    "but its module is not listed in Modules.jsonl."
                )
            self.premise_ids[declaration.name] = len(self.kept)
            self.kept.append(declaration)
        if module in self.spans:
            self.spans[module] = (start, len(self.kept))


def _module_names(files: Mapping[str, bytes]) -> Iterator[str]:
    decoder = msgspec.json.Decoder(_Module)
    for number, line in enumerate(_content(files, "Modules.jsonl").splitlines(), 1):
        if line.strip():
            try:
                yield decoder.decode(line).name
            except MALFORMED as error:
                raise StartupError(f"Modules.jsonl line {number}: {error}.") from None


def _blacklist(files: Mapping[str, bytes]) -> frozenset[str]:
    content = _content(files, "HammerBlacklist.jsonl")
    if not content.strip():
        raise StartupError('HammerBlacklist.jsonl is empty; one that names nothing is {"hammerBlacklist": []}.')
    try:
        return msgspec.json.decode(content, type=_Blacklist).names
    except MALFORMED as error:
        raise StartupError(f"HammerBlacklist.jsonl: {error}.") from None


def _content(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise StartupError(f"The data archive has no {name} at its top.")
    return files[name].removeprefix(BOM)


def _revision(content: bytes) -> str:
    """The file's text, fit for one line of a log and for a URL, whatever it holds."""
    text = content.removeprefix(BOM)[: 4 * REVISION_CHARS].decode(errors="replace").strip()[:REVISION_CHARS]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _declarations(file: str, content: bytes) -> tuple[list[Declaration], list[LeftOut]]:
    """The declarations, one a line, up to the first blank or malformed line, and the rest, if it holds anything."""
    lines = content.splitlines()
    declarations: list[Declaration] = []
    for line in lines:
        try:
            declarations.append(parse_declaration(line))
        except MALFORMED as error:
            rest = sum(1 for later in lines[len(declarations) :] if later.strip())
            reason = str(error) if line.strip() else "a blank line"
            return declarations, [LeftOut(file, len(declarations) + 1, rest, reason)] if rest else []
    return declarations, []


def _module_rule(module: str) -> str:
    """The rule that removes all of this module's declarations; empty if none does."""
    return next((f"module {part}" for part in module.split(".") if part in MODULE_COMPONENTS), "")


def _rule(declaration: Declaration, blacklist: frozenset[str], module_rule: str, seen: Mapping[str, int]) -> str:
    """The first rule of the filter that removes the declaration; empty if it is a premise."""
    name = declaration.name
    if name in blacklist:
        return "blacklist"
    if module_rule:
        return module_rule
    if not NAME_COMPONENTS.isdisjoint(name.split(".")):
        return "name component"
    if declaration.type.startswith(TYPE_PREFIX):
        return "type prefix"
    return "name seen before" if name in seen else ""


def _log(filtered: Mapping[str, int], left_out: list[LeftOut]) -> None:
    for end in left_out:
        logger.warning(
            "%s ends at line %d (%s): %d lines are left out", _shown(end.file), end.line, end.reason, end.lines
        )
    if filtered:
        counts = ", ".join(f"{rule} {count}" for rule, count in sorted(filtered.items()))
        logger.info("the filter removed %d declarations: %s", sum(filtered.values()), counts)


def _nothing_left(left_out: list[LeftOut]) -> str:
    sentence = "The data archive holds no premise that passes the filter"
    if not left_out:
        return f"{sentence}."
    first = left_out[0]
    return f"{sentence}: {_shown(first.file)} ends at line {first.line} ({first.reason})."


def _shown(name: str) -> str:
    """A name from the data in a sentence: one line, and short."""
    return (name if name.isprintable() else ascii(name))[:SHOWN_CHARS]
