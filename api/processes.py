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
METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable: the folder through which processes sum up their metrics."""
EARLY_S = 60.0
"""A child that fails within this long of its start will not do better next time."""


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
        StartupError: a process failed right after its start; it has said why.
    """
    stopping = False

    def stop(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    metrics = TemporaryDirectory(prefix="premise-server-")
    children = {_start(listener, metrics.name): time.monotonic() for _ in range(count)}
    try:
        while not stopping:
            time.sleep(0.2)
            for child, started in list(children.items()):
                if child.poll() is None or stopping:
                    continue
                del children[child]
                if child.returncode == 1 or time.monotonic() - started < EARLY_S:
                    raise StartupError(f"An API process stopped (exit status {child.returncode}).")
                children[_start(listener, metrics.name)] = time.monotonic()
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
            assert child.stdin is not None
            child.stdin.close()
        metrics.cleanup()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()  # the parent holds the other end of this pipe and never writes
    os.kill(os.getpid(), signal.SIGTERM)


def _start(listener: socket.socket, metrics: str) -> "subprocess.Popen[bytes]":
    number = listener.fileno()
    env = {**os.environ, LISTENER: str(number), METRICS: metrics}
    # A session of its own: Ctrl-C reaches the parent, which stops the children once.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "api"],
        env=env,
        stdin=subprocess.PIPE,
        pass_fds=[number],
        start_new_session=True,
    )
