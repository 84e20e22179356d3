"""Several API processes behind one port: this one listens and supervises, its children serve.

The children are interchangeable. Each listens on the same socket, so while one serves, the death of another costs only
the requests that it had. The rules of `shared.supervisor` thus end this process only if the system was never ready and
all children are down.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from tempfile import TemporaryDirectory
from types import FrameType

from api.telemetry.metrics import METRICS
from shared.errors import StartupError
from shared.supervisor import POLL_S, Supervisor

logger = logging.getLogger(__name__)

LISTENER = "API_LISTENER"
"""Environment variable that tells a child the number of the inherited listening socket."""
FIRST = "API_FIRST"
"""1 for the child that answers from the first moment, if only why nothing is served yet. The others accept nothing
before they can serve it, because another child may be able to."""
STOP_S = 35.0
"""Longer than a child finishes running requests, shorter than a launcher waits for this process."""
ASK_EVERY_S = 1.0
"""Pause between two questions whether the system is ready, and how long an answer may take."""


def inherited_listener() -> socket.socket | None:
    """Return the listening socket of the parent if this is a child; the child then ends when its parent does."""
    number = os.environ.get(LISTENER)
    if number is None:
        return None
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    return socket.socket(fileno=int(number))


def accepts_at_once() -> bool:
    """Return if this process takes requests before it is ready."""
    return os.environ.get(FIRST) != "0"


def run_processes(listener: socket.socket, count: int) -> None:
    """Run `count` API processes on one socket until SIGTERM or SIGINT; one that dies is started again.

    Raises:
        StartupError: no process can start, or there is no room for temporary files.
    """
    stopping = False

    def stop(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    with _metrics_folder() as metrics, Supervisor(logger.warning, stop_s=STOP_S, interchangeable=True) as supervisor:

        def start() -> "subprocess.Popen[bytes]":
            env = {**supervisor.environment, METRICS: metrics, FIRST: str(int(not supervisor.is_any_running))}
            return _start(listener, env)

        for number in range(1, count + 1):
            supervisor.keep(f"API process {number}", start)
        ask_at = 0.0
        while not stopping:
            time.sleep(POLL_S)
            supervisor.check()
            if not supervisor.was_ready and time.monotonic() >= ask_at:
                supervisor.was_ready = _is_ready(listener)
                ask_at = time.monotonic() + ASK_EVERY_S


def _metrics_folder() -> "TemporaryDirectory[str]":
    try:
        return TemporaryDirectory(prefix="premise-server-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StartupError(f"There is no folder for temporary files (TMPDIR): {error.strerror or error}.") from None


def _is_ready(listener: socket.socket) -> bool:
    """Ask the children's `/health/ready`, as clients do; a wildcard address reaches this machine itself."""
    host, port = listener.getsockname()[:2]
    try:
        with closing(HTTPConnection(host, port, timeout=ASK_EVERY_S)) as connection:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


def _end_with_parent() -> None:
    # The parent holds the other end of this pipe and never writes. Not through sys.stdin: a thread that waits in there
    # when the interpreter ends is a fatal error.
    os.read(sys.stdin.fileno(), 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _start(listener: socket.socket, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    number = listener.fileno()
    # A session of its own: Ctrl-C reaches the parent, which stops the children once.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "api"],
        env={**os.environ, **env, LISTENER: str(number)},
        stdin=subprocess.PIPE,
        pass_fds=[number],
        start_new_session=True,
    )
