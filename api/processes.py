"""Several API processes behind one port: this one listens and watches, its children serve."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from tempfile import TemporaryDirectory
from types import FrameType

from shared.errors import StartupError

LISTENER = "API_LISTENER"
"""Environment variable that tells a child the number of the inherited listening socket."""
FIRST = "API_FIRST"
"""1 for the process that answers from the first moment, if only why nothing is served yet. The others accept nothing
before they can serve it: one process may be there already that can."""
METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable: the folder through which processes sum up their metrics."""
EARLY_S = 60.0
MOST_EARLY = 5
"""Deaths in a row of processes that lived less than EARLY_S, before any lived longer; then it is not chance."""
PAUSE_S = 1.0
"""Before the next one, after an early death."""


def inherited_listener() -> socket.socket | None:
    """The listening socket of the parent, if this is a child; which ends when its parent does, however that went."""
    number = os.environ.get(LISTENER)
    if number is None:
        return None
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return socket.socket(fileno=int(number))


def run_processes(listener: socket.socket, count: int) -> None:
    """Run `count` API processes on one socket until SIGTERM or SIGINT; one that dies is started again.

    Raises:
        StartupError: a process cannot start, and has said why; or they die again and again.
    """
    stopping = False

    def stop(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    metrics = TemporaryDirectory(prefix="premise-server-")
    children = {_start(listener, metrics.name, first=i == 0): time.monotonic() for i in range(count)}
    early, proven, start_again = 0, False, 0.0
    try:
        while not stopping:
            time.sleep(0.2)
            now = time.monotonic()
            for child in [child for child in children if child.poll() is not None]:
                lived_s = now - children.pop(child)
                early, start_again = (early + 1, now + PAUSE_S) if lived_s < EARLY_S else (0, now)
                # Later on the same exit status says that Redis is away, say: those that serve go on without it.
                if not proven and (child.returncode == 1 or early > MOST_EARLY):
                    raise StartupError(f"An API process stopped (exit status {child.returncode}).")
            proven = proven or any(now - started > EARLY_S for started in children.values())
            while len(children) < count and now >= start_again and not stopping:
                children[_start(listener, metrics.name, first=not children)] = now
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
            assert child.stdin is not None
            child.stdin.close()
        metrics.cleanup()


def accepts_at_once() -> bool:
    """Whether this process takes requests before it is ready."""
    return os.environ.get(FIRST) != "0"


def _end_with_parent() -> None:
    # The parent holds the other end of this pipe and never writes. Not through sys.stdin: a thread that waits in there
    # when the interpreter ends is a fatal error.
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _start(listener: socket.socket, metrics: str, *, first: bool) -> "subprocess.Popen[bytes]":
    number = listener.fileno()
    env = {**os.environ, LISTENER: str(number), FIRST: str(int(first)), METRICS: metrics}
    # A session of its own: Ctrl-C reaches the parent, which stops the children once.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "api"],
        env=env,
        stdin=subprocess.PIPE,
        pass_fds=[number],
        start_new_session=True,
    )
