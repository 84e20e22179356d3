"""The demo's data read without the code under test."""

import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from shared.commands.demo_run import demo_environment


@dataclass(frozen=True)
class Row:
    """A declaration, and where the contract's rules look."""

    name: str
    module: str
    kind: str
    in_module_system: bool
    exposed: bool


@cache
def demo_modules() -> list[str]:
    return sorted(item["name"] for item in _lines()["Modules.jsonl"])


@cache
def demo_rows() -> list[Row]:
    """All declarations, in data order."""
    return [
        Row(
            name=item["name"],
            module=file.removeprefix("Declarations/").removesuffix(".jsonl"),
            kind=item["kind"],
            in_module_system=item.get("inModuleSystem", False),
            exposed=item.get("isExposed", False),
        )
        for file, items in sorted(_lines().items())
        if file.startswith("Declarations/")
        for item in items
    ]


@cache
def demo_declarations() -> dict[str, dict[str, Any]]:
    """What `POST /declarations` says of each name, be it a premise or not; of two of one name, the first."""
    found: dict[str, dict[str, Any]] = {}
    for file, items in sorted(_lines().items()):
        module = file.removeprefix("Declarations/").removesuffix(".jsonl")
        for item in items if file.startswith("Declarations/") else ():
            shown = {field: item[field] for field in ("name", "kind", "args", "type", "doc")}
            found.setdefault(item["name"], {**shown, "module": module})
    return found


@cache
def _lines() -> dict[str, list[dict[str, Any]]]:
    """Rows of each .jsonl file of the archive."""
    with tarfile.open(Path(demo_environment()["DATA_REPO"]) / "premises.tar.gz") as archive:
        contents = {
            m.name.removeprefix("./"): file.read() for m in archive if (file := archive.extractfile(m)) is not None
        }
    return {
        name: [msgspec.json.decode(line) for line in content.splitlines() if line]
        for name, content in contents.items()
        if name.endswith(".jsonl")
    }
