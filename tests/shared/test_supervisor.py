"""Children are started again by the rules, their supervisor tells about it, and none outlives it."""

import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import FrameType

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import StartupError
from shared.supervisor import (
    MOST_EARLY,
    PAUSES_S,
    REPORTS,
    STEADY_S,
    ChildReport,
    Supervisor,
    ends_in_row,
    exit_in_words,
    is_hopeless,
    pause_s,
    read_reports,
)
from tests.support.servers import wait_for

STOP_S = 5.0
SHORT = st.floats(0, STEADY_S, exclude_max=True)
LONG = st.floats(STEADY_S, 1e6)


# -- the rules


@given(st.lists(SHORT, min_size=1))
def test_pauses_grow_while_a_child_keeps_ending(ran_s: list[float]) -> None:
    in_row, pauses = 0, []
    for seconds in ran_s:
        in_row = ends_in_row(in_row, seconds)
        pauses.append(pause_s(in_row, hopeless=False))
    assert pauses[0] == PAUSES_S[0]
    assert all(before < after or before == after == PAUSES_S[-1] for before, after in pairwise(pauses))


@given(st.integers(0, 1_000_000), LONG)
def test_a_child_that_ran_long_begins_a_new_row(in_row: int, ran_s: float) -> None:
    assert pause_s(ends_in_row(in_row, ran_s), hopeless=False) == PAUSES_S[0]


@given(st.integers(-64, 255), st.integers(1, 1_000_000))
def test_nothing_is_hopeless_once_the_system_was_ready(status: int, in_row: int) -> None:
    assert not is_hopeless(status, in_row, was_ready=True)
    assert is_hopeless(status, in_row, was_ready=False) == (status == 1 or in_row >= MOST_EARLY)


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exit status 0"), (1, "exit status 1"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-45, "signal 45")],
)
def test_an_exit_is_told_in_words(status: int, words: str) -> None:
    assert exit_in_words(status) == words


# -- children


def sh(script: str) -> Callable[[], "subprocess.Popen[bytes]"]:
    """The start of a child; `exec` in the script, so that a signal reaches what runs."""
    return lambda: subprocess.Popen(["sh", "-c", script], start_new_session=True)


SLEEPER = sh("exec sleep 60")


def pids() -> set[int]:
    """Running children of these tests; fixtures of other tests may have servers running."""
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return {child.pid for child in children if child.name() in {"sh", "sleep"}}


def checked_until(supervisor: Supervisor, condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    def check() -> bool:
        supervisor.check()
        return condition()

    wait_for(check, what, seconds)


def reports(supervisor: Supervisor) -> list[ChildReport]:
    return read_reports(supervisor.environment)


def test_a_child_that_ends_is_started_again_and_that_is_told() -> None:
    told: list[str] = []
    gone: list[int] = []
    with Supervisor(told.append, stop_s=STOP_S, on_end=gone.append) as supervisor:
        supervisor.keep("first", SLEEPER)
        supervisor.keep("second", SLEEPER)
        supervisor.was_ready = True
        before = pids()
        first = min(before)
        os.kill(first, signal.SIGKILL)
        checked_until(supervisor, lambda: bool(told), "the sentence")
        assert told == ["The first stopped (SIGKILL) and is started again in 0.2 s; restart 1."]
        assert gone == [first]
        waiting, second = reports(supervisor)
        assert waiting.next_start_s is not None and waiting.next_start_s <= 0.2
        assert waiting == ChildReport("first", 0, "SIGKILL", waiting.next_start_s)
        assert second == ChildReport("second", 0, None, None)
        checked_until(supervisor, lambda: reports(supervisor)[0].restarts == 1, "the restart")
        assert reports(supervisor)[0] == ChildReport("first", 1, "SIGKILL", None)
        assert len(pids() - before) == 1
        path = Path(supervisor.environment[REPORTS])
    assert not pids() - before
    assert not path.exists()


def test_after_the_start_an_error_of_a_child_ends_nothing() -> None:
    with Supervisor(lambda _: None, stop_s=STOP_S) as supervisor:
        supervisor.was_ready = True
        supervisor.keep("failing", sh("exit 1"))
        supervisor.keep("missing", lambda: subprocess.Popen(["/nonexistent/program"]))
        checked_until(supervisor, lambda: min(r.restarts for r in reports(supervisor)) >= 2, "two restarts")
        assert [report.last_exit for report in reports(supervisor)] == [
            "exit status 1",
            "cannot be started: No such file or directory",
        ]


def test_before_the_system_is_ready_a_child_that_says_why_it_cannot_run_ends_it() -> None:
    with Supervisor(lambda _: None, stop_s=STOP_S) as supervisor:
        supervisor.keep("sleeper", SLEEPER)
        supervisor.keep("role", sh("exit 1"))
        with pytest.raises(StartupError, match=r"^The role stopped \(exit status 1\)\.$"):
            checked_until(supervisor, lambda: False, "the error")
    assert not pids()


def test_before_the_system_is_ready_a_crash_is_tried_again_but_not_for_ever() -> None:
    told: list[str] = []
    with Supervisor(told.append, stop_s=STOP_S) as supervisor:
        supervisor.keep("role", sh("kill -SEGV $$"))
        with pytest.raises(StartupError, match=r"^The role stopped \(SIGSEGV\)\.$"):
            checked_until(supervisor, lambda: False, "the error", 30)
    assert len(told) == MOST_EARLY - 1


def test_a_child_that_cannot_be_started_at_first_ends_the_start() -> None:
    missing = pytest.raises(StartupError, match="cannot be started: No such file or directory")
    with missing, Supervisor(lambda _: None, stop_s=STOP_S) as supervisor:
        supervisor.keep("role", lambda: subprocess.Popen(["/nonexistent/program"]))


def test_interchangeable_children_all_have_to_be_down() -> None:
    with Supervisor(lambda _: None, stop_s=STOP_S, interchangeable=True) as supervisor:
        supervisor.keep("sibling", SLEEPER)
        (sibling,) = pids()
        supervisor.keep("failing", sh("exit 1"))
        checked_until(supervisor, lambda: reports(supervisor)[1].last_exit is not None, "its end")
        next_start_s = reports(supervisor)[1].next_start_s
        assert next_start_s is not None and next_start_s > PAUSES_S[-1] - 5, "it has said why: no hurry"
        os.kill(sibling, signal.SIGKILL)
        checked_until(supervisor, lambda: reports(supervisor)[0].restarts == 1, "the sibling's restart")
    with Supervisor(lambda _: None, stop_s=STOP_S, interchangeable=True) as supervisor:
        supervisor.keep("early", sh("exit 1"))
        supervisor.keep("late", sh("sleep 0.5; exit 1"))
        with pytest.raises(StartupError, match="The late stopped"):
            checked_until(supervisor, lambda: False, "the error")


@pytest.mark.parametrize("interchangeable", [False, True])
def test_a_child_that_does_not_stop_is_killed(interchangeable: bool, tmp_path: Path) -> None:
    def deaf(name: str) -> Callable[[], "subprocess.Popen[bytes]"]:
        return sh(f"trap 'echo {name} >> {tmp_path}/asked' TERM; touch {tmp_path}/{name}; while :; do sleep 0.1; done")

    with Supervisor(lambda _: None, stop_s=0.5, interchangeable=interchangeable) as supervisor:
        supervisor.keep("first", deaf("first"))
        supervisor.keep("second", deaf("second"))
        wait_for(lambda: {"first", "second"} <= set(os.listdir(tmp_path)), "both")
        began = time.monotonic()
    assert not pids()
    assert (0.4 if interchangeable else 0.9) < time.monotonic() - began < 10
    if not interchangeable:
        assert (tmp_path / "asked").read_text() == "second\nfirst\n"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_child_starts_leaves_no_child(signum: signal.Signals) -> None:
    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def start() -> "subprocess.Popen[bytes]":
        process = SLEEPER()
        signal.raise_signal(signum)
        return process

    before = signal.signal(signum, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), Supervisor(lambda _: None, stop_s=STOP_S) as supervisor:
            supervisor.keep("child", start)
        assert not pids()
        assert signal.getsignal(signum) is interrupt
    finally:
        signal.signal(signum, before)


# -- reports


@contextmanager
def no_room() -> Iterator[None]:
    """A full disk for this process: no file may be longer than nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_reports_only() -> None:
    with Supervisor(lambda _: None, stop_s=STOP_S) as supervisor:
        supervisor.was_ready = True
        with no_room():
            supervisor.keep("child", SLEEPER)
        assert reports(supervisor) == []
        supervisor.keep("other", SLEEPER)
        written = reports(supervisor)
        assert [report.restarts for report in written] == [0, 0]
        with no_room():
            gone = min(pids())
            os.kill(gone, signal.SIGKILL)
            checked_until(supervisor, lambda: gone not in pids() and len(pids()) == 2, "the restart")
        assert reports(supervisor) == written


def test_without_a_folder_for_temporary_files_there_are_no_reports(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with Supervisor(lambda _: None, stop_s=STOP_S) as supervisor:
        supervisor.keep("child", SLEEPER)
        supervisor.check()
        assert len(pids()) == 1
        assert reports(supervisor) == []


def test_the_reports_of_a_supervisor_around_this_one_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with Supervisor(lambda _: None, stop_s=STOP_S) as outer:
        outer.keep("outer child", SLEEPER)
        monkeypatch.setenv(REPORTS, outer.environment[REPORTS])
        with Supervisor(lambda _: None, stop_s=STOP_S) as inner:
            inner.keep("inner child", SLEEPER)
            assert [report.name for report in reports(inner)] == ["outer child", "inner child"]


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        b"",
        b'{"written_at": 1, "children": [{"name": "x"',
        b"[]",
        b'{"written_at": 1}',
        b'{"written_at": 1, "children": [{"name": "x", "restarts": "1", "last_exit": null, "next_start_s": null}]}',
        b'{"written_at": NaN, "children": []}',
        b"\xff\x00",
    ],
)
def test_a_missing_or_damaged_report_has_no_children(damaged: bytes | None, tmp_path: Path) -> None:
    if damaged is not None:
        (tmp_path / "damaged").write_bytes(damaged)
    assert read_reports({REPORTS: str(tmp_path / "damaged")}) == []
    with Supervisor(lambda _: None, stop_s=STOP_S) as supervisor:
        supervisor.keep("child", SLEEPER)
        both = os.pathsep.join([str(tmp_path / "damaged"), supervisor.environment[REPORTS]])
        assert [report.name for report in read_reports({REPORTS: both})] == ["child"]


def test_no_supervisor_is_no_children() -> None:
    assert read_reports({}) == read_reports({REPORTS: ""}) == []
