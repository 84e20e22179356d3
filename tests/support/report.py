"""What every benchmark prints: the machine, then a table."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table


def print_machine(console: Console, *packages: str) -> None:
    cpu = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    console.print(f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}", highlight=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    made = Table(*columns, title=title, title_justify="left")
    for row in rows:
        made.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    return made


def p50_p99(milliseconds: Sequence[float]) -> tuple[float, float]:
    return float(np.percentile(milliseconds, 50)), float(np.percentile(milliseconds, 99))


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
