"""The roles' Dockerfiles and what `.dockerignore` lets into a build, read without Docker."""

import json
import shlex
import shutil
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from dockerfile_parse import DockerfileParser

from tests.support.repository import ROOT


class Instruction(NamedTuple):
    keyword: str
    value: str


def dockerfile(role: str) -> list[Instruction]:
    """Its instructions in order, continued lines joined."""
    with (ROOT / role / "Dockerfile").open("rb") as file:
        parsed = DockerfileParser(fileobj=file).structure
    return [Instruction(item["instruction"], item["value"]) for item in parsed if item["instruction"] != "COMMENT"]


def values(role: str, keyword: str) -> list[str]:
    """What follows each such instruction."""
    return [instruction.value for instruction in dockerfile(role) if instruction.keyword == keyword]


def environment(role: str) -> dict[str, str]:
    """What the image sets by ENV."""
    final = dockerfile(role)
    start = max(index for index, instruction in enumerate(final) if instruction.keyword == "FROM")
    settings = [shlex.split(value) for keyword, value in final[start:] if keyword == "ENV"]
    return dict(setting.split("=", 1) for group in settings for setting in group)


def entrypoint(role: str) -> list[str]:
    (value,) = values(role, "ENTRYPOINT")
    command: list[str] = json.loads(value)
    return command


def health_check(role: str) -> list[str]:
    """The command, without its options."""
    (value,) = values(role, "HEALTHCHECK")
    command: list[str] = json.loads(value.partition(" CMD ")[2])
    return command


def in_build_context(path: str) -> bool:
    """Whether `.dockerignore` lets a path through: the last pattern that matches it or a parent decides."""
    parents = [path, *map(str, Path(path).parents)][:-1]
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(_ignores(pattern, parent) for parent in parents):
            kept = line.startswith("!")
    return kept


def copy_from_context(source: str, target: Path) -> None:
    """What `COPY source target` does; the files in a folder go into `target`, a file goes to or into it."""
    path = ROOT / source
    if path.is_file():
        assert in_build_context(source), source
        shutil.copy(path, target)
        return
    shutil.copytree(path, target, ignore=_ignored, dirs_exist_ok=True)


def _ignored(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not in_build_context(str((Path(folder) / name).relative_to(ROOT)))]


def _ignores(pattern: str, path: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(Path(path).name, pattern.removeprefix("**/"))
    return pattern.count("/") == path.count("/") and fnmatchcase(path, pattern)
