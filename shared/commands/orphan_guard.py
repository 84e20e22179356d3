"""`python -m shared.commands.orphan_guard`: ends processes whose launcher is gone, however it went.

Reads process ids from standard input, one a line; `-7` takes 7 back, because a number whose process is gone may
soon be another's. The launcher holds the other end of that pipe; when it exits, or is killed, the pipe closes and
every process named so far is ended.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection

GRACE_S = 10.0


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
