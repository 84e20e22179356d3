"""modules.json: the modules that a text goes through, in order."""

from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Literal, get_args

from shared.errors import StartupError
from shared.model.config_file import read_json, shown
from shared.model.files import MODULES

Kind = Literal["Transformer", "Pooling", "Dense", "Normalize"]

_PLACES: tuple[tuple[str, tuple[Kind, ...]], ...] = (
    ("models.{kind}", get_args(Kind)),
    ("models.{kind}.{kind}", get_args(Kind)),
    ("sentence_transformer.modules.{kind}", get_args(Kind)),
    ("sentence_transformer.modules.{file}.{kind}", ("Pooling", "Normalize")),
    ("base.modules.{kind}", ("Transformer", "Dense", "Normalize")),
    ("base.modules.{file}.{kind}", ("Transformer", "Dense", "Normalize")),
)
TYPES: dict[str, Kind] = {
    f"sentence_transformers.{place.format(kind=kind, file=kind.lower())}": kind
    for place, kinds in _PLACES
    for kind in kinds
}
"""Names of the classes, old and new. Those of other packages are code that is never run."""


@dataclass(frozen=True)
class Module:
    kind: Kind
    folder: str
    """Below the model directory; empty for the directory itself."""


def read_modules(directory: Path) -> tuple[Module, ...]:
    """The modules, in order: a Transformer, a Pooling, then any number of Dense and Normalize; () without modules.json.

    Format: sentence-transformers, `BaseModel._load_config_modules`.

    Raises:
        StartupError: the list is odd, or has modules that are not supported; the sentence names the first.
    """
    path = directory / MODULES
    try:
        entries = read_json(path)
    except FileNotFoundError:
        return ()
    if not isinstance(entries, list):
        raise StartupError(f"{path} holds a JSON {type(entries).__name__}, not a list of modules.")
    modules = tuple(_module(path, place, entry) for place, entry in enumerate(entries))
    names = [entry["name"] for entry in entries]
    if len(set(names)) != len(names):
        raise StartupError(f"{path} gives two modules the same name.")
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or not set(kinds[2:]) <= {"Dense", "Normalize"}:
        raise StartupError(
            f"{path} lists {', '.join(kinds) or 'no module'}; supported are Transformer, Pooling and then any Dense "
            "and Normalize."
        )
    return modules


def _module(path: Path, place: int, entry: object) -> Module:
    if not isinstance(entry, dict):
        raise StartupError(f"{path}: module {place} is {shown(entry)}, not an object.")
    for field in ("name", "path", "type"):
        if not isinstance(entry.get(field), str):
            raise StartupError(f"{path}: module {place} has no {field}.")
    if entry["type"] not in TYPES:
        raise StartupError(
            f"{path}: module {place} is of type {shown(entry['type'])}; supported are {', '.join(get_args(Kind))} "
            "of sentence-transformers."
        )
    folder = PureWindowsPath(entry["path"])  # which knows both kinds of separators
    if folder.anchor or ".." in folder.parts or "\0" in entry["path"]:
        raise StartupError(f"{path}: module {place} has path {shown(entry['path'])}, which leads out of the model.")
    return Module(TYPES[entry["type"]], "" if folder == PureWindowsPath() else entry["path"])
