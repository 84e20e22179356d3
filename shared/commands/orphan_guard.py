"""`python -m shared.commands.orphan_guard`: ends the launcher's children if the launcher exits or is killed.

The guard reads process ids from standard input, one a line. `-7` takes 7 back, because the system may give the number
of an ended process to another one. The launcher holds the other end of that pipe. When the launcher is gone, the pipe
closes, and the guard ends every process that was named and not taken back.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection

GRACE_S = 10.0
CLOSE_S = 40.0
"""Far longer than a guard takes to end that has nothing left to guard."""


class Guard:
    """The launcher's side: a running guard process and the pipe to it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "shared.commands.orphan_guard"],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """Let the guard end this process if the launcher is gone."""
        self._write(pid)

    def forget(self, pid: int) -> None:
        """Take back a process that has ended."""
        self._write(-pid)

    def close(self) -> None:
        """Close the pipe and wait for the guard."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(CLOSE_S)

    def _write(self, number: int) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # somebody killed the guard; its processes go on all the same
            self._process.stdin.write(f"{number}\n".encode())


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pids: set[int] = set()
    for number in map(int, sys.stdin):
        if number > 0:
            pids.add(number)
        else:
            pids.discard(-number)
    end(pids)


def end(pids: Collection[int]) -> None:
    """SIGTERM, and SIGKILL to what is left after `GRACE_S` seconds."""
    for pid in pids:
        _signal(pid, signal.SIGTERM)
    give_up = time.monotonic() + GRACE_S
    while any(_signal(pid, 0) for pid in pids) and time.monotonic() < give_up:
        time.sleep(0.05)
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, signum: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)
        return True
    return False


if __name__ == "__main__":
    main()
