"""`make chaos`: every fault again and again for CHAOS_SECONDS (600), and a table of what clients saw."""

import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import faults
from tests.chaos.phase import COLUMNS, Phase, run_phase
from tests.chaos.reference import Reference
from tests.chaos.system import system
from tests.support.report import table


def main() -> int:
    console = Console(width=180)
    seconds = float(os.environ.get("CHAOS_SECONDS", "600"))
    phases: dict[str, Phase] = {}
    with tempfile.TemporaryDirectory() as directory, system(Path(directory)) as running:
        reference = Reference(running.data_dir, fresh=600)
        rounds, give_up = 0, time.monotonic() + seconds
        # Once through in any case.
        while rounds == 0 or time.monotonic() < give_up:
            for fault in faults():
                if rounds and time.monotonic() > give_up:
                    break
                merge(phases, run_phase(fault, running, reference))
                console.print(f"{fault.name}: {phases[fault.name].problems or 'kept'}", highlight=False)
            rounds += 1
    console.print(table(f"Faults, {seconds:g} s", COLUMNS, [phase.row() for phase in phases.values()]))
    broken = sum(bool(phase.problems) for phase in phases.values())
    total = sum(len(phase.answers) for phase in phases.values())
    console.print(f"{total} requests; {broken} of {len(phases)} kinds of fault broke a promise")
    return 1 if broken else 0


def merge(phases: dict[str, Phase], phase: Phase) -> None:
    """Faults that come again share a row."""
    row = phases.setdefault(phase.fault, Phase(phase.fault))
    row.answers += phase.answers
    row.recovered_s = max(row.recovered_s, phase.recovered_s)
    row.problems += phase.problems


if __name__ == "__main__":
    sys.exit(main())
