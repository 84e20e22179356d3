"""The system under test: two Redis servers, two workers and two API processes, each of which can be hurt and mended."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import redis

from shared.commands.redis_server import cache_command, find_redis_server, free_port, queue_command
from shared.redis.keys import workers
from tests.support.servers import role_env, wait_for

REQUEST_TIMEOUT_S = 8.0
NEAR_ENTRIES = 64
"""Small, so that texts leave the near cache and come from Redis or the workers again."""
STOP_S = 45.0
"""Longer than a role takes to finish what it began."""


@dataclass
class Part:
    """One process, started again in its place as often as needed."""

    name: str
    command: list[str]
    env: Mapping[str, str] | None
    log: Path
    process: "subprocess.Popen[bytes] | None" = None
    ended_by_us: bool = True

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            # Python ignores SIGXFSZ, and so do its children if signals are not restored: a file that may not grow is
            # then an error of write(2), as on a full disk, and not the end of the process.
            self.process = subprocess.Popen(
                [*self.command, *options], env=self.env, stdout=log, stderr=log, cwd=self.log.parent,
                restore_signals=False,
            )  # fmt: skip
        self.ended_by_us = False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, signum: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def kill(self) -> None:
        """As the kernel does it when memory is short."""
        self.ended_by_us = True
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status once the process is gone."""
        self.ended_by_us = True
        self.send(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(STOP_S)

    def close(self) -> None:
        self.ended_by_us = True
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    @property
    def died(self) -> bool:
        """Ended, and not because a fault asked for it."""
        return not self.ended_by_us and self.process is not None and self.process.poll() is not None


@dataclass
class RedisPart(Part):
    """A redis-server that keeps its port."""

    port: int = 0
    directory: Path = Path()

    def forget(self) -> None:
        """Remove what it has saved; for while it is not running."""
        shutil.rmtree(self.directory)
        self.directory.mkdir()

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, socket_timeout=5)

    def wait_until_up(self) -> None:
        wait_for(self._answers, self.name)

    def fill_disk(self) -> None:
        """From now on no file of this server grows: its writes fail as on a full disk, without root."""
        psutil.Process(self.pid).rlimit(psutil.RLIMIT_FSIZE, (1, psutil.RLIM_INFINITY))

    def free_disk(self) -> None:
        psutil.Process(self.pid).rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@dataclass
class WorkerPart(Part):
    """A worker process; it says in its log which id it has in Redis."""

    def worker_id(self) -> str:
        """Of the process that runs now; empty until the log has it."""
        found = re.findall(r"worker (\S+) serves ", self.log.read_text())
        return str(found[-1]) if found else ""


@dataclass
class ApiPart(Part):
    """An API process that keeps its port."""

    base_url: str = ""
    in_rotation: bool = True
    """Whether the proxy that clients are behind sends requests here: not to a process that is still starting."""

    def readiness(self) -> int:
        """Status of `/health/ready`; 0 if nothing answers."""
        try:
            return httpx.get(f"{self.base_url}/health/ready", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.readiness() == 200 or self.died, self.name, 90)


@dataclass
class System:
    """All parts, and where they write."""

    directory: Path
    data_dir: Path
    queue: RedisPart
    cache: RedisPart
    workers: list[WorkerPart]
    apis: list[ApiPart]

    def urls(self) -> list[str]:
        """Base URLs of the API processes that get requests now."""
        return [api.base_url for api in self.apis if api.in_rotation]

    @property
    def parts(self) -> list[Part]:
        return [self.queue, self.cache, *self.workers, *self.apis]

    def died(self) -> list[str]:
        """Names of the processes that ended although nobody ended them."""
        return [part.name for part in self.parts if part.died]

    def start_worker(self, worker: WorkerPart) -> None:
        worker.log.write_text("")  # so that the id found there is this process's
        worker.start()

    def wait_for_worker(self, worker: WorkerPart) -> None:
        """Until the worker claims jobs."""
        wait_for(lambda: self.registered(worker) or worker.died, worker.name, 90)

    def wait_until_whole(self) -> None:
        """Until every worker and every API process is there."""
        for worker in self.workers:
            self.wait_for_worker(worker)
        for api in self.apis:
            api.wait_until_ready()

    def registered(self, worker: WorkerPart) -> bool:
        """Whether the worker's sign of life is in Redis."""
        try:
            with self.queue.client() as client:
                worker_id = worker.worker_id()
                scores = [client.zscore(key, worker_id) or 0.0 for key in client.scan_iter(workers("*"))]
                return any(score > 1000 * time.time() for score in scores)
        except redis.RedisError:
            return False


@contextmanager
def system(directory: Path, data_dir: Path | None = None, **settings: str) -> Iterator[System]:
    """Everything running and ready over the demo corpus; a `data_dir` with a built index makes the start short."""
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        made = _system(directory, data_dir or directory / "data", settings)
        for part in made.parts:
            stack.callback(part.close)
        for redis_part in (made.queue, made.cache):
            redis_part.start()
            redis_part.wait_until_up()
        for worker in made.workers:
            made.start_worker(worker)
        for api in made.apis:
            api.start()
        made.wait_until_whole()
        yield made


def _system(directory: Path, data_dir: Path, settings: Mapping[str, str]) -> System:
    binary, queue_port, cache_port = find_redis_server(), free_port(), free_port()
    queue_log, cache_log = directory / "queue.log", directory / "cache.log"
    # A folder for each: what a server saves must not be read by another one.
    queue_files, cache_files = directory / "queue", directory / "cache"
    queue_files.mkdir(exist_ok=True)
    cache_files.mkdir(exist_ok=True)
    queue_line = [*queue_command(binary, queue_port, queue_log), "--dir", str(queue_files)]
    cache_line = cache_command(binary, cache_port, cache_files, "64mb", cache_log)
    env = role_env(
        directory,
        REDIS_URL=f"redis://127.0.0.1:{queue_port}/0",
        CACHE_REDIS_URL=f"redis://127.0.0.1:{cache_port}/0",
        HOST="127.0.0.1",
        REQUEST_TIMEOUT=f"{REQUEST_TIMEOUT_S:g}",
        LRU_CACHE_SIZE=str(NEAR_ENTRIES),
        TORCH_THREADS="1",
    )
    env |= {"DATA_DIR": str(data_dir), **settings}
    worker, api = [sys.executable, "-P", "-m", "worker"], [sys.executable, "-P", "-m", "api"]
    apis = []
    for name in ("API 1", "API 2"):
        port = free_port()
        log = directory / f"{name}.log"
        apis.append(ApiPart(name, api, {**env, "PORT": str(port)}, log, base_url=f"http://127.0.0.1:{port}"))
    return System(
        directory,
        data_dir,
        RedisPart("queue Redis", queue_line, None, queue_log, port=queue_port, directory=queue_files),
        RedisPart("cache Redis", cache_line, None, cache_log, port=cache_port, directory=cache_files),
        [WorkerPart(name, worker, env, directory / f"{name}.log") for name in ("worker 1", "worker 2")],
        apis,
    )
