"""Real servers for tests: redis-server, API and worker processes on free ports."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import redis

from shared.commands.demo_run import demo_environment
from shared.commands.redis_server import cache_command, find_redis_server, free_port, queue_command

START_S = 90


@dataclass
class RedisServer:
    """One redis-server of the tests' own."""

    port: int
    process: subprocess.Popen[bytes]
    password: str | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, password=self.password)


@contextmanager
def redis_server(
    directory: Path, *, cache: bool = False, port: int = 0, password: str | None = None
) -> Iterator[RedisServer]:
    """A fresh redis-server, configured as embedded mode does it."""
    port = port or free_port()
    binary, log = find_redis_server(), directory / f"redis-{port}.log"
    command = cache_command(binary, port, directory, "64mb", log) if cache else queue_command(binary, port, log)
    if password:
        command = [*command, "--requirepass", password]
    with running(command) as process:
        server = RedisServer(port, process, password)
        with server.client() as client:
            wait_for(lambda: answers(client), "redis-server")
        yield server


@contextmanager
def running(
    command: list[str], env: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended with the block; its output goes to `log`, or to the test's own.

    It runs in the log's folder, so that no `.env` of the checkout is read.
    """
    out = log.open("ab") if log else None
    process = subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=log.parent if log else None)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if out:
            out.close()


@dataclass
class Stack:
    """API, worker and two Redis servers over the demo corpus."""

    base_url: str
    env: dict[str, str]
    queue: RedisServer
    cache: RedisServer
    log: Path


@contextmanager
def stack(directory: Path, **settings: str) -> Iterator[Stack]:
    """Everything running and ready; `settings` are environment variables on top of the demo's."""
    directory.mkdir(parents=True, exist_ok=True)
    with redis_server(directory) as queue, redis_server(directory, cache=True) as cache:
        port, log = free_port(), directory / "processes.log"
        env = role_env(
            directory, REDIS_URL=queue.url, CACHE_REDIS_URL=cache.url, PORT=str(port), HOST="127.0.0.1", **settings
        )
        worker, api = [sys.executable, "-P", "-m", "worker"], [sys.executable, "-P", "-m", "api"]
        with running(worker, env, log), running(api, env, log) as process:
            wait_until_ready(f"http://127.0.0.1:{port}", process, log)
            yield Stack(f"http://127.0.0.1:{port}", env, queue, cache, log)


def role_env(directory: Path, **settings: str) -> dict[str, str]:
    """The environment of a role over the demo data, with everything it writes under `directory`."""
    return {**os.environ, **demo_environment(), "DATA_DIR": str(directory / "data"), **settings}


def wait_until_ready(base_url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = START_S) -> None:
    def ready() -> bool:
        assert process.poll() is None, f"the API stopped:\n{log.read_text()}"
        try:
            return httpx.get(f"{base_url}/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    wait_for(ready, "the API", seconds)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not come up in {seconds} s"
        time.sleep(0.05)


def answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
