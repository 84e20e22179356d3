"""API and worker parts: whether they are installed here, and what they find in processes of their own."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Literal

import msgspec

from shared.commands.local_system import python_module
from shared.finding import Finding, decode

Part = Literal["api", "worker"]

LIBRARY: dict[Part, str] = {"api": "faiss", "worker": "torch"}
"""Which tells whether a part is installed."""
DOCTOR: dict[Part, str] = {"api": "api.commands.doctor", "worker": "worker.doctor"}
"""The module of each part that prints its findings."""
PART_S = 180
"""torch and the weights from a slow disk."""


def installed(name: Part) -> bool:
    return find_spec(LIBRARY[name]) is not None


def part(name: Part, otherwise: str) -> list[Finding]:
    """Run the part's doctor in a process of its own, because this package imports neither part; return its findings."""
    if not installed(name):
        return [Finding("ok", name, f"The {name} part is not installed here, so {otherwise}.")]
    try:
        finished = subprocess.run(python_module(DOCTOR[name]), capture_output=True, timeout=PART_S)
        return decode(finished.stdout)
    except subprocess.TimeoutExpired:
        return [Finding("problem", name, f"Its checks took more than {PART_S} s.", "Look at the load of this machine.")]
    except msgspec.DecodeError:
        lines = finished.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1].rstrip(".") if lines else f"exit status {finished.returncode}"
        advice = f"Install it again: `{sys.executable} -m pip install 'lean-premise-server[{name}]'`."
        return [Finding("problem", name, f"The {name} part does not run: {reason}.", advice)]
