"""How far long work is: a bar on a terminal, elsewhere a line every few seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_S = 5.0


class Pace:
    """Counts what is done, and says now and then how far it is."""

    def __init__(self, total: int, every_s: float = EVERY_S) -> None:
        self._total = total
        self._every_s = every_s
        self._done = 0
        self._start = self._said = time.monotonic()

    def advance(self, count: int) -> str | None:
        """A sentence if the last one is `every_s` seconds old."""
        self._done = min(self._done + count, self._total)  # totals may be estimates
        now = time.monotonic()
        if now - self._said < self._every_s:
            return None
        self._said = now
        return self.sentence()

    def sentence(self) -> str:
        """How far it is, how fast, and how long it takes yet."""
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        percent = 100 * self._done // max(self._total, 1)
        left_s = (self._total - self._done) / rate if rate else 0
        left = f", about {duration(left_s)} left" if left_s >= 1 else ""
        return f"{self._done:,} of {self._total:,} ({percent} %), {rate:,.0f} a second{left}"


def duration(seconds: float) -> str:
    """Roughly, in the largest unit that says something."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def progress(what: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Yields what is called with each count that is done."""
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            bar = bars.add_task(what, total=total)
            yield lambda count: bars.update(bar, completed=min(bars.tasks[bar].completed + count, total))
        return
    pace = Pace(total)

    def advance(count: int) -> None:
        if sentence := pace.advance(count):
            console.print(f"{what}: {sentence}", markup=False, highlight=False, soft_wrap=True)

    yield advance
