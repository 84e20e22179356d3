"""API and worker parts: whether they are installed here, and what they find in processes of their own."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Literal

import msgspec

from shared.doctor.finding import Finding, decode
from shared.embedded import python_module

Part = Literal["api", "worker"]

LIBRARY: dict[Part, str] = {"api": "faiss", "worker": "torch"}
"""Which tells whether a part is installed."""
PART_S = 180
"""torch and the weights from a slow disk."""


def installed(name: Part) -> bool:
    return find_spec(LIBRARY[name]) is not None


def part(name: Part, otherwise: str) -> list[Finding]:
    """What `python -m {name}.doctor` finds, in a process of its own: this package imports neither."""
    if not installed(name):
        return [Finding("ok", name, f"The {name} part is not installed here, so {otherwise}.")]
    try:
        finished = subprocess.run(python_module(f"{name}.doctor"), capture_output=True, timeout=PART_S)
        return decode(finished.stdout)
    except subprocess.TimeoutExpired:
        return [Finding("problem", name, f"Its checks took more than {PART_S} s.", "Look at the load of this machine.")]
    except msgspec.DecodeError:
        lines = finished.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1].rstrip(".") if lines else f"exit status {finished.returncode}"
        advice = f"Install it again: `{sys.executable} -m pip install 'lean-premise-server[{name}]'`."
        return [Finding("problem", name, f"The {name} part does not run: {reason}.", advice)]
