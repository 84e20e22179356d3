"""`make soak`: steady load for SOAK_SECONDS (600), and whether memory and key counts stay where they were.

Every cache that a process keeps is bounded; the bounds are set low or filled on purpose at the beginning, so that what
grows afterwards is a leak. Texts in Redis live for seconds, so that as many leave as come.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from rich.console import Console

from tests.chaos.load import Answer, load
from tests.chaos.reference import Reference
from tests.chaos.system import System, system
from tests.support.report import table

WARM_UP_SHARE = 0.35
"""Of the time; what is sampled in it is not judged."""
TTL_S = "8"
SAMPLES = 120
MOST_GROWTH = 0.02
"""Of what there was, from the first to the last third of the judged samples, by their medians."""
NOISE_MB = 4.0
NOISE_KEYS = 40
"""Growth below these is not judged: an allocator's arena, or some more texts in flight."""
REMEMBERED_LISTS = 60
"""Lists of 2,048 new premises: more than the API keeps, which is by bytes."""
REMEMBERED_SETS = 300
"""Different imports: more sets than the API keeps."""


@dataclass
class Series:
    """One figure over time."""

    name: str
    unit: str
    noise: float
    values: list[float] = field(default_factory=list)

    def judged(self) -> list[float]:
        return self.values[int(len(self.values) * WARM_UP_SHARE) :]

    def growth(self) -> float:
        """From the first to the last third, by medians."""
        judged = self.judged()
        third = max(1, len(judged) // 3)
        return float(np.median(judged[-third:]) - np.median(judged[:third]))

    def is_flat(self) -> bool:
        start = float(np.median(self.judged()[: max(1, len(self.judged()) // 3)]))
        return self.growth() <= max(self.noise, MOST_GROWTH * start)

    def row(self) -> list[object]:
        judged = self.judged()
        figures = (self.values[0], judged[0], judged[-1], max(judged), self.growth())
        return [self.name, self.unit, *(f"{figure:.1f}" for figure in figures), "flat" if self.is_flat() else "GROWS"]


COLUMNS = ("", "unit", "at start", "after warm-up", "at end", "most", "growth", "verdict")


class Watch:
    """Samples all processes and both Redis."""

    def __init__(self, running: System) -> None:
        self._running = running
        self._memory = {part.name: Series(f"{part.name}, memory", "MB (RSS)", NOISE_MB) for part in running.parts}
        self._keys = {s.name: Series(f"{s.name}, keys", "", NOISE_KEYS) for s in (running.queue, running.cache)}

    @property
    def series(self) -> list[Series]:
        return [*self._memory.values(), *self._keys.values()]

    def sample(self) -> None:
        for part in self._running.parts:
            # Not PSS: that changes with what other processes on the machine map of the same files.
            self._memory[part.name].values.append(psutil.Process(part.pid).memory_info().rss / 1e6)
        for server in (self._running.queue, self._running.cache):
            with server.client() as client:
                self._keys[server.name].values.append(client.dbsize())


def fill(running: System) -> None:
    """What an API process remembers by count or bytes, filled to the brim."""
    premises = [{"name": f"n{i}", "decl": f"def d{i % 20} : Nat"} for i in range(2048)]
    for api in running.apis:
        with httpx.Client(base_url=api.base_url, timeout=60, trust_env=False) as client:
            for i in range(REMEMBERED_LISTS):
                body = {"state": "⊢ a", "k": 1, "new_premises": [*premises[i:], *premises[:i]]}
                client.post("/retrieve", json=body).raise_for_status()
            for i in range(REMEMBERED_SETS):
                client.post("/retrieve", json={"state": "⊢ a", "k": 1, "local_premises": [i]}).raise_for_status()


def soak(running: System, seconds: float) -> tuple[list[Series], list[Answer]]:
    """The samples, and the answers given meanwhile."""
    watch = Watch(running)
    fill(running)
    reference = Reference(running.data_dir)
    with load(running.urls, reference.next) as clients:
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            time.sleep(seconds / SAMPLES)
            watch.sample()
    return watch.series, clients.answers


def main() -> int:
    console = Console(width=140)
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    with (
        tempfile.TemporaryDirectory() as directory,
        system(Path(directory), STATE_TTL=TTL_S, PREMISE_TTL=TTL_S) as running,
    ):
        series, answers = soak(running, seconds)
    failed = [answer for answer in answers if answer.status != "200" or answer.wrong]
    flat = all(line.is_flat() for line in series)
    console.print(table(f"Soak, {seconds:g} s", COLUMNS, [line.row() for line in series]))
    console.print(f"{len(answers)} requests, {len(failed)} failed or wrong; {'flat' if flat else 'NOT FLAT'}")
    return 0 if flat and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
