"""Supervisor of child processes: starts them, starts them again when they end, and reports on them in a file.

The rules, for every command that has children:
- The supervisor starts a child again when it ends, whatever the reason. The pauses grow (`PAUSES_S`) while the child
  keeps ending. A child that ran for `STEADY_S` begins a new row. The other children go on meanwhile.
- Once the system was ready, no child's end is the end of the command: what still runs may still serve.
- Before the system was ready, a hopeless child ends the command: one that stops with its own error (exit status 1), or
  that ends `MOST_EARLY` times in a row. If the children are interchangeable, they all have to be down.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, TracebackType
from typing import Self

import msgspec

from shared.errors import StartupError

REPORTS = "PREMISE_SERVER_REPORTS"
"""Environment variable with the paths of the report files, the outermost supervisor's first."""
PAUSES_S = (0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Pauses before a child is started again, by how often in a row it ended; the last one repeats."""
STEADY_S = 60.0
"""A child that ran this long before it ended begins a new row."""
MOST_EARLY = 5
"""A child that ends this often in a row before the system was ever ready cannot run."""
POLL_S = 0.2
"""Pause of the commands between two calls of `Supervisor.check`."""
FAILED = 1
"""Exit status of a role that has printed in one sentence why it cannot run."""


def ends_in_row(before: int, ran_s: float) -> int:
    """Count the end of a child that ran for `ran_s` seconds and had ended `before` times in a row."""
    return 1 if ran_s >= STEADY_S else before + 1


def pause_s(in_row: int, *, hopeless: bool) -> float:
    """Seconds until a child is started again that ended `in_row` times in a row; a hopeless one waits longest."""
    return PAUSES_S[-1] if hopeless else PAUSES_S[min(in_row, len(PAUSES_S)) - 1]


def is_hopeless(status: int, in_row: int, *, was_ready: bool) -> bool:
    """Decide if a child would end again in the same way; once the system was ready, reasons may pass."""
    return not was_ready and (status == FAILED or in_row >= MOST_EARLY)


def exit_in_words(status: int) -> str:
    """Name the signal that ended a process, or its exit status; `status` is negative for a signal, as in `Popen`."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


@dataclass(frozen=True)
class ChildReport:
    """State of one child process, as its supervisor reports it."""

    name: str
    restarts: int
    last_exit: str | None
    """Signal name or exit status of the last end; None if the child never ended."""
    next_start_s: float | None
    """Seconds until the child is started again; None while it runs."""


@dataclass(frozen=True)
class _Report:
    written_at: float
    """Seconds of the monotonic clock, which all processes of a machine share."""
    children: list[ChildReport]


def read_reports(environment: Mapping[str, str]) -> list[ChildReport]:
    """Read the reports of all supervisors that `environment` names; a missing or damaged file has no children."""
    children: list[ChildReport] = []
    for path in filter(None, environment.get(REPORTS, "").split(os.pathsep)):
        with suppress(OSError, msgspec.DecodeError):
            report = msgspec.json.decode(Path(path).read_bytes(), type=_Report)
            age_s = time.monotonic() - report.written_at
            children += [_older(child, age_s) for child in report.children]
    return children


@dataclass
class Child:
    """One child process, running or waiting for its next start."""

    name: str
    start: Callable[[], "subprocess.Popen[bytes]"]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    in_row: int = 0
    restarts: int = 0
    last_exit: str | None = None
    start_at: float = 0.0

    def report(self, now: float) -> ChildReport:
        left_s = None if self.process else max(0.0, self.start_at - now)
        return ChildReport(self.name, self.restarts, self.last_exit, left_s)


class Supervisor:
    """Context that keeps child processes running, and stops them at its end; for the main thread.

    `tell` gets a sentence for each child that ended. `on_end` gets the id of each process that is gone.
    Interchangeable children do the same work and are stopped together; others are stopped one by one, the last first.
    `stop_s` is how long a child may take after SIGTERM before it gets SIGKILL.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        *,
        stop_s: float,
        interchangeable: bool = False,
        on_end: Callable[[int], None] = lambda _pid: None,
    ) -> None:
        self.was_ready = False
        """The caller sets this once the system could serve."""
        self._tell = tell
        self._stop_s = stop_s
        self._interchangeable = interchangeable
        self._on_end = on_end
        self._children: list[Child] = []
        self._folder: TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        with suppress(OSError):  # a full disk costs the reports, not the system
            self._folder = TemporaryDirectory(prefix="premise-server-", ignore_cleanup_errors=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()
        if self._folder:
            self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a child finds the reports of this supervisor and of those around it."""
        return {REPORTS: os.pathsep.join(filter(None, [os.environ.get(REPORTS), self._path]))}

    @property
    def is_any_running(self) -> bool:
        return any(child.process for child in self._children)

    def keep(self, name: str, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        """Start a child and keep it running from now on.

        Raises:
            StartupError: the child cannot be started, and the system was never ready.
        """
        child = Child(name, start)
        self._children.append(child)
        self._start(child)
        self._write()

    def check(self) -> None:
        """Notice the children that ended, and start those whose pause is over.

        Raises:
            StartupError: the system was never ready, and a hopeless child keeps it from ever being so.
        """
        ended = [child for child in self._children if child.process and child.process.poll() is not None]
        for child in ended:
            process, child.process = child.process, None
            if process:
                self._release(process)
                self._plan_start(child, process.returncode, exit_in_words(process.returncode))
        now = time.monotonic()
        due = [child for child in self._children if not child.process and now >= child.start_at]
        for child in due:
            child.restarts += 1
            self._start(child)
        if ended or due:
            self._write()

    def _start(self, child: Child) -> None:
        child.started = time.monotonic()
        try:
            with _signals_held():
                child.process = child.start()
        except OSError as error:
            self._plan_start(child, FAILED, f"cannot be started: {error.strerror or error}")

    def _plan_start(self, child: Child, status: int, why: str) -> None:
        now = time.monotonic()
        child.last_exit = why
        child.in_row = ends_in_row(child.in_row, now - child.started)
        hopeless = is_hopeless(status, child.in_row, was_ready=self.was_ready)
        if hopeless and not (self._interchangeable and self.is_any_running):
            raise StartupError(f"The {child.name} stopped ({why}).")
        pause = pause_s(child.in_row, hopeless=hopeless)
        child.start_at = now + pause
        self._tell(
            f"The {child.name} stopped ({why}) and is started again in {pause:g} s; restart {child.restarts + 1}."
        )

    def _stop(self) -> None:
        processes = [child.process for child in reversed(self._children) if child.process]
        for together in [processes] if self._interchangeable else [[process] for process in processes]:
            for process in together:
                process.terminate()
            give_up = time.monotonic() + self._stop_s
            for process in together:
                try:
                    process.wait(max(0.0, give_up - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                self._release(process)

    def _release(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdin:
            process.stdin.close()
        self._on_end(process.pid)

    @property
    def _path(self) -> str:
        return os.path.join(self._folder.name, "children.json") if self._folder else ""

    def _write(self) -> None:
        if not self._folder:
            return
        now = time.monotonic()
        report = _Report(now, [child.report(now) for child in self._children])
        with suppress(OSError):  # what a full disk cannot take is skipped; readers keep the report before
            Path(f"{self._path}.new").write_bytes(msgspec.json.encode(report))
            os.replace(f"{self._path}.new", self._path)


def _older(child: ChildReport, age_s: float) -> ChildReport:
    if child.next_start_s is None:
        return child
    return replace(child, next_start_s=round(max(0.0, child.next_start_s - age_s), 1))


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back signals that have a handler: a child that was started but is not on record yet would outlive this."""
    held: list[int] = []

    def hold(signum: int, _frame: FrameType | None) -> None:
        held.append(signum)

    stopping = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = {signum: handler for signum in stopping if callable(handler := signal.getsignal(signum))}
    for signum in handlers:
        signal.signal(signum, hold)
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        for number in held:
            signal.raise_signal(number)
