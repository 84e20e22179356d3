"""Embedded mode: two Redis servers, workers and an API as children of one command.

The children are what the containers run; only the URLs differ. Each is started again when it ends, by the rules of
`shared.supervisor`. What goes on meanwhile, once the system was ready:
- queue Redis: the API answers what needs no embedding, and 503 else. API and workers connect again by themselves. The
  queue comes back empty; the API queues again what somebody waits for.
- cache Redis: the API answers all requests; workers embed again what was cached. It comes back with its last snapshot.
- a worker: the other workers do its jobs. Without any, the API answers what needs no embedding, and 503 else.
- the API: nobody answers until it is back. Workers keep their model loaded, Redis keeps what is cached.

No child stands in for another before that: the system is not ready before Redis, API and a worker run, and an error of
one worker is a setting that the user has to mend.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path

from shared.commands.loopback import ask, base_url
from shared.commands.orphan_guard import Guard
from shared.commands.redis_server import cache_command, find_redis_server, free_port, queue_command
from shared.errors import StartupError
from shared.listen import require_free
from shared.settings import Settings
from shared.supervisor import POLL_S, Supervisor

CACHE_MEMORY = "512mb"
"""About 166,000 float32 embeddings of 768 dimensions at 3,234 bytes each."""
STOP_S = 40.0
"""Longer than API and worker take to finish what they began."""


@dataclass
class Embedded:
    """The running system."""

    settings: Settings
    queue_url: str
    cache_url: str
    supervisor: Supervisor
    base_url: str = field(init=False)

    def __post_init__(self) -> None:
        self.base_url = base_url(self.settings.host, self.settings.port)

    def wait_until_ready(self, tell: Callable[[str], None]) -> None:
        """Poll `/health/ready`; `tell` gets what is still missing.

        Raises:
            StartupError: a child stopped; it has printed why.
        """
        while reasons := self._not_ready():
            tell(" ".join(reasons))
            time.sleep(POLL_S)
            self.supervisor.check()
        self.supervisor.was_ready = True

    def watch(self) -> None:
        """Keep the children running until interrupted."""
        while True:
            time.sleep(POLL_S)
            self.supervisor.check()

    def _not_ready(self) -> list[str]:
        try:
            with ask(f"{self.base_url}/health/ready", 5):
                return []
        except urllib.error.HTTPError as error:
            # An API that is ending may answer with another body, or with half of one.
            with suppress(OSError, HTTPException, ValueError, KeyError):
                reasons: list[str] = json.load(error)["reasons"]
                return reasons
        except (OSError, HTTPException):
            pass
        return ["The API is starting."]


def python_module(name: str) -> list[str]:
    """The command that runs a module of ours; `-P`, so that a folder of that name where the user is does not run."""
    return [sys.executable, "-P", "-m", name]


@contextmanager
def embedded(settings: Settings, workers: int, env: Mapping[str, str]) -> Iterator[Embedded]:
    """Start everything, and stop it at the end; `env` goes to API and workers on top of this process's own.

    The API is stopped first, so that no request loses its worker, and Redis last.

    Raises:
        StartupError: there is no redis-server, the port is taken, or DATA_DIR cannot be written.
    """
    binary = find_redis_server()
    require_free(settings.host, settings.port)
    directory = _redis_folder(settings.data_dir)
    queue_port, cache_port = free_port(), free_port()
    queue_url, cache_url = f"redis://127.0.0.1:{queue_port}/0", f"redis://127.0.0.1:{cache_port}/0"
    threads = settings.torch_threads or max(1, (os.cpu_count() or 1) // workers)
    urls = {"REDIS_URL": queue_url, "CACHE_REDIS_URL": cache_url}
    with closing(Guard()) as guard, Supervisor(warn, stop_s=STOP_S, on_end=guard.forget) as supervisor:
        role_env = {**os.environ, **env, **urls, "TORCH_THREADS": str(threads), **supervisor.environment}
        commands = {
            "queue Redis": queue_command(binary, queue_port, directory / "queue.log"),
            "cache Redis": cache_command(binary, cache_port, directory, CACHE_MEMORY, directory / "cache.log"),
            **{f"worker {number}": python_module("worker") for number in range(1, workers + 1)},
            "API": python_module("api"),
        }
        for name, command in commands.items():
            supervisor.keep(name, partial(_start, command, role_env, guard))
        yield Embedded(settings, queue_url, cache_url, supervisor)


def _redis_folder(data_dir: Path) -> Path:
    directory = (data_dir / "redis").resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"DATA_DIR {data_dir} cannot be used: {error.strerror or error}.") from None
    return directory


def _start(command: list[str], env: Mapping[str, str], guard: Guard) -> "subprocess.Popen[bytes]":
    # A session of its own: Ctrl-C reaches the launcher only, which then stops everything in order.
    process = subprocess.Popen(command, env=env, start_new_session=True)
    guard.watch(process.pid)
    return process


def warn(sentence: str) -> None:
    """Print a sentence to standard error, if it can be written."""
    with suppress(OSError):  # standard error may be a file on a full disk
        print(sentence, file=sys.stderr, flush=True)
