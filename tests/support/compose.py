"""The compose files, read without Docker."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.support.repository import ROOT

BASE, GPU = "docker-compose.yaml", "docker-compose.gpu.yaml"


def compose(name: str = BASE) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return parsed


def services(name: str = BASE) -> dict[str, dict[str, Any]]:
    listed: dict[str, dict[str, Any]] = compose(name)["services"]
    return listed


def started_by_default() -> dict[str, dict[str, Any]]:
    """Services that `docker compose up` starts without a profile."""
    return {name: service for name, service in services().items() if "profiles" not in service}


def variables(name: str) -> list[str]:
    """What stands between the braces of every `${...}`."""
    return re.findall(r"\$\{(.*?)\}", (ROOT / name).read_text(encoding="utf-8"))


def merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """What `-f base -f overlay` runs: mappings merge, lists are appended, all else is replaced."""
    result = dict(base)
    for key, value in overlay.items():
        present = result.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            result[key] = merged(present, value)
        elif isinstance(present, list) and isinstance(value, list):
            result[key] = present + value
        else:
            result[key] = value
    return result


def valid(content: dict[str, Any], folder: Path) -> bool:
    """Whether the Compose specification's own schema, which check-jsonschema ships, allows it."""
    (folder / "compose.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, folder / "compose.yaml"], capture_output=True, timeout=60).returncode == 0
