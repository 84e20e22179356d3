"""Repeats what a Dockerfile does in a folder that stands for the image's root, for machines without Docker.

Commands, environment, build arguments and copied files are the Dockerfile's own. What differs: Python is the one that
runs the tests, not the base image's; the user and the volume's folder, which need root, are not made; both stages share
the folder, so what `COPY --from=build` copies is already in its place.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.settings import Settings
from tests.support.dockerfile import Instruction, copy_from_context, dockerfile, environment

INSTALL_S = 900
FOLDERS = re.compile(r"(?<![\w./])/(?=(opt|src|data|home)\b)")
"""The absolute paths that our Dockerfiles use."""


def build(role: str, root: Path, arguments: Mapping[str, str]) -> None:
    """Run the first stage; `arguments` are given as with `docker build --build-arg`."""
    env, folder = _surroundings(), root
    for keyword, value in _first_stage(role):
        match keyword:
            case "ARG":
                name, _, default = value.partition("=")
                env[name] = arguments.get(name, default)
            case "ENV":
                env |= dict(setting.split("=", 1) for setting in shlex.split(_inside(root, value)))
            case "WORKDIR":
                folder = Path(_inside(root, value))
                folder.mkdir(parents=True)
            case "COPY":
                *sources, target = value.split()
                for source in sources:
                    copy_from_context(source, folder / target)
            case "RUN":
                _run(_inside(root, value), folder, env)
            case _:
                raise AssertionError(f"{keyword} in the first stage is not understood")


def image_environment(role: str, root: Path) -> dict[str, str]:
    """What a process in a container of the image finds set, with a home and a place for temporary files of its own."""
    env = {"HOME": str(root / "home"), "TMPDIR": str(root / "tmp"), "PATH": os.defpath}
    for name in ("home", "tmp", "data"):
        (root / name).mkdir()
    for name, value in environment(role).items():
        env[name] = _inside(root, value).replace("$PATH", env["PATH"])
    return env


def _first_stage(role: str) -> list[Instruction]:
    listed = dockerfile(role)
    stages = [index for index, instruction in enumerate(listed) if instruction.keyword == "FROM"]
    return listed[stages[0] + 1 : stages[1]]


def _surroundings() -> dict[str, str]:
    """The tests' environment, for the package index that it names; without settings, and without our own sources."""
    dropped = {"PYTHONPATH", "VIRTUAL_ENV", *(name.upper() for name in Settings.model_fields)}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**env, "PATH": f"{Path(sys.executable).parent}:{env['PATH']}"}


def _inside(root: Path, text: str) -> str:
    return FOLDERS.sub(f"{root}/", text)


def _run(command: str, folder: Path, env: Mapping[str, str]) -> None:
    ended = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=INSTALL_S
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
