"""Embedded mode: two Redis servers, workers and an API as children of one command.

The children are what the containers run; only the URLs differ.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from shared.commands.loopback import ask, base_url
from shared.commands.redis_server import cache_command, find_redis_server, free_port, queue_command
from shared.errors import StartupError
from shared.settings import Settings

CACHE_MEMORY = "512mb"
"""About 166,000 float32 embeddings of 768 dimensions at 3,234 bytes each."""
STOP_S = 40.0
"""Longer than API and worker take to finish what they began."""
MOST_RESTARTS = 5
"""Of one child in a row; then it is not chance."""
STEADY_S = 60.0
"""A child that ran this long before it stopped begins a new row."""


@dataclass
class Child:
    """One process; started again if it dies."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0


@dataclass
class Embedded:
    """The running children, in the order they were started."""

    settings: Settings
    queue_url: str
    cache_url: str
    children: list[Child]
    guard: subprocess.Popen[bytes]
    base_url: str = field(init=False)

    def __post_init__(self) -> None:
        self.base_url = base_url(self.settings.host, self.settings.port)

    def start(self, child: Child) -> None:
        # A session of its own: Ctrl-C reaches the launcher only, which then stops everything in order.
        child.process = subprocess.Popen(child.command, env=child.env, start_new_session=True)
        child.started = time.monotonic()
        self._tell_guard(child.process.pid)

    def wait_until_ready(self, tell: Callable[[str], None]) -> None:
        """Poll `/health/ready`; `tell` gets what is still missing.

        Raises:
            StartupError: a child stopped; it has printed why.
        """
        while True:
            for child in self.children:
                if child.process is not None and child.process.poll() is not None:
                    raise StartupError(f"The {child.name} stopped (exit status {child.process.returncode}).")
            reasons = self._not_ready()
            if not reasons:
                return
            tell(" ".join(reasons))
            time.sleep(0.2)

    def watch(self) -> None:
        """Keep the children running until interrupted.

        Raises:
            StartupError: a child dies again and again.
        """
        while True:
            time.sleep(0.2)
            for child in self.children:
                if child.process is None or child.process.poll() is None:
                    continue
                child.restarts = 1 if time.monotonic() - child.started > STEADY_S else child.restarts + 1
                if child.restarts > MOST_RESTARTS:
                    raise StartupError(f"The {child.name} stopped {child.restarts} times; giving up.")
                print(
                    f"The {child.name} stopped (exit status {child.process.returncode}) and is started again.",
                    file=sys.stderr,
                )
                self._tell_guard(-child.process.pid)
                self.start(child)

    def stop(self) -> None:
        """The API first, so that no request loses its worker; Redis last."""
        for child in reversed(self.children):
            if child.process is not None and child.process.poll() is None:
                child.process.terminate()
                try:
                    child.process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
            if child.process is not None:
                self._tell_guard(-child.process.pid)
        assert self.guard.stdin is not None
        self.guard.stdin.close()
        self.guard.wait(STOP_S)

    def _tell_guard(self, pid: int) -> None:
        assert self.guard.stdin is not None
        with suppress(BrokenPipeError):  # somebody killed the guard; what it guards must be stopped all the same
            self.guard.stdin.write(f"{pid}\n".encode())

    def _not_ready(self) -> list[str]:
        try:
            with ask(f"{self.base_url}/health/ready", 5):
                return []
        except urllib.error.HTTPError as error:
            reasons: list[str] = json.load(error)["reasons"]
            return reasons
        except OSError:
            return ["The API is starting."]


def python_module(name: str) -> list[str]:
    """The command that runs a module of ours; `-P`, so that a folder of that name where the user is does not run."""
    return [sys.executable, "-P", "-m", name]


def require_free(host: str, port: int) -> None:
    """Without this, a server that is there already would be taken for ours.

    Raises:
        StartupError: host and port cannot be listened on.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise StartupError(f"Cannot listen on {host}:{port} (HOST, PORT): {error.strerror or error}.") from None


@contextmanager
def embedded(settings: Settings, workers: int, env: Mapping[str, str]) -> Iterator[Embedded]:
    """Start everything, and stop it at the end; `env` goes to API and workers on top of this process's own.

    Raises:
        StartupError: there is no redis-server, the port is taken, or DATA_DIR cannot be written.
    """
    binary = find_redis_server()
    require_free(settings.host, settings.port)
    directory = (settings.data_dir / "redis").resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"DATA_DIR {settings.data_dir} cannot be used: {error.strerror or error}.") from None
    queue_port, cache_port = free_port(), free_port()
    queue_url, cache_url = f"redis://127.0.0.1:{queue_port}/0", f"redis://127.0.0.1:{cache_port}/0"
    threads = settings.torch_threads or max(1, (os.cpu_count() or 1) // workers)
    role_env = {
        **os.environ,
        **env,
        "REDIS_URL": queue_url,
        "CACHE_REDIS_URL": cache_url,
        "TORCH_THREADS": str(threads),
    }
    children = [
        Child("queue Redis", queue_command(binary, queue_port, directory / "queue.log"), os.environ),
        Child(
            "cache Redis",
            cache_command(binary, cache_port, directory, CACHE_MEMORY, directory / "cache.log"),
            os.environ,
        ),
        *(Child(f"worker {i + 1}", python_module("worker"), role_env) for i in range(workers)),
        Child("API", python_module("api"), role_env),
    ]
    guard = subprocess.Popen(
        python_module("shared.commands.orphan_guard"), stdin=subprocess.PIPE, bufsize=0, start_new_session=True
    )
    running = Embedded(settings, queue_url, cache_url, children, guard)
    try:
        for child in children:
            running.start(child)
        yield running
    finally:
        running.stop()
