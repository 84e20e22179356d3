"""Embedded mode goes on while something serves, however often a child dies."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import httpx
import psutil
import pytest
import redis

from shared.commands.local_system import Embedded
from shared.commands.redis_server import free_port
from shared.settings import Settings
from shared.supervisor import PAUSES_S, ChildReport, Supervisor, read_reports
from tests.support.servers import answers, role_env, running, wait_for

SCRIPT = str(Path(sys.executable).with_name("premise-server"))
pytestmark = pytest.mark.timeout(400)  # pauses between restarts grow to half a minute


@dataclass
class Demo:
    """A running `premise-server demo` and what it wrote."""

    launcher: psutil.Process
    log: Path
    url: str
    api_environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        (api,) = self.those("-m api")
        self.api_environment = api.environ()

    def those(self, command: str) -> list[psutil.Process]:
        """The launcher's children whose command line contains `command`, the oldest first."""
        children = sorted(self.launcher.children(), key=psutil.Process.create_time)
        return [child for child in children if command in " ".join(child.cmdline())]

    def report(self, name: str) -> ChildReport:
        (report,) = (report for report in read_reports(self.api_environment) if report.name == name)
        return report

    def retrieve(self, goal: str) -> int:
        body = {"state": goal, "k": 3}
        return httpx.post(f"{self.url}/retrieve", json=body, timeout=60, trust_env=False).status_code


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    port, log = free_port(), tmp_path / "demo.log"
    env = role_env(tmp_path, PYTHONUNBUFFERED="1")
    with running([SCRIPT, "demo", "--workers", "2", "--port", str(port)], env, log) as launcher:
        wait_for(lambda: launcher.poll() is not None or b"Ctrl-C stops" in log.read_bytes(), "the demo", 120)
        assert launcher.poll() is None, log.read_text()
        yield Demo(psutil.Process(launcher.pid), log, f"http://127.0.0.1:{port}")


@contextmanager
def asked(demo: Demo) -> Iterator[list[int]]:
    """Ask one new goal after the other during the block; the statuses so far."""
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.2):
            statuses.append(demo.retrieve(f"⊢ {len(statuses)} = {len(statuses)}"))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield statuses
    finally:
        stop.set()
        asking.join(60)


def test_a_worker_that_dies_eight_times_in_a_row_is_missed_by_nobody(demo: Demo) -> None:
    wait_for(lambda: len(httpx.get(f"{demo.url}/status").json()["workers"]) == 2, "both workers", 60)
    _, other = demo.those("-m worker")
    pauses: list[float] = []
    with asked(demo) as statuses:
        for death in range(1, 9):
            wait_for(lambda: len(demo.those("-m worker")) == 2, "the worker", PAUSES_S[-1] + 30)
            (victim,) = set(demo.those("-m worker")) - {other}
            victim.kill()
            wait_for(lambda: demo.report("worker 1").next_start_s is not None, "the report")
            report = demo.report("worker 1")
            assert (report.restarts, report.last_exit) == (death - 1, "SIGKILL")
            pauses.append(report.next_start_s or 0.0)
    assert set(statuses) == {200}
    assert len(statuses) > 100
    assert pauses == sorted(pauses)
    assert PAUSES_S[-1] - 5 < pauses[-1] <= PAUSES_S[-1]
    assert demo.launcher.is_running()
    assert other.is_running()
    assert demo.report("worker 2") == ChildReport("worker 2", 0, None, None)
    assert "The worker 1 stopped (SIGKILL) and is started again in 60 s; restart 8." in demo.log.read_text()
    assert "Traceback" not in demo.log.read_text()


def test_a_queue_redis_that_dies_again_and_again_ends_nothing(demo: Demo) -> None:
    roles = {*demo.those("-m worker"), *demo.those("-m api")}
    assert demo.retrieve("⊢ cached before") == 200
    with redis.Redis.from_url(demo.api_environment["REDIS_URL"]) as queue, asked(demo) as statuses:
        for deaths in range(1, 5):
            psutil.Process(queue.info("server")["process_id"]).kill()
            wait_for(lambda: demo.report("queue Redis").next_start_s is not None, "the report")
            assert demo.retrieve("⊢ cached before") == 200
            back = ChildReport("queue Redis", deaths, "SIGKILL", None)
            wait_for(partial(lambda back: demo.report("queue Redis") == back and answers(queue), back), "Redis", 30)
        wait_for(lambda: demo.retrieve(f"⊢ after {len(statuses)}") == 200, "an answer to a new goal", 30)
    assert set(statuses) <= {200, 503}
    assert roles == {*demo.those("-m worker"), *demo.those("-m api")}
    assert "Traceback" not in demo.log.read_text()


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["SIGTERM", "Ctrl-C twice"])
@pytest.mark.parametrize("children", [1, 3, 6])
def test_a_signal_while_children_start_ends_all_of_them(
    signals: list[signal.Signals], children: int, tmp_path: Path
) -> None:
    log = tmp_path / "demo.log"
    with running([SCRIPT, "demo", "--port", str(free_port())], role_env(tmp_path), log) as launcher:
        process = psutil.Process(launcher.pid)
        wait_for(lambda: len(process.children()) >= min(children, 5), "the children")
        started = process.children(recursive=True)
        if children > 5:
            time.sleep(1)
        for signum in signals:
            launcher.send_signal(signum)
            time.sleep(0.1)
        assert launcher.wait(45) == 0, log.read_text()
    _, alive = psutil.wait_procs(started, 5)
    assert not alive
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert "Traceback" not in log.read_text()


class Answers(BaseHTTPRequestHandler):
    """An API that starts: it has each of these answers once, the last says that it is ready."""

    left: ClassVar[list[tuple[int, bytes, int]]]

    def do_GET(self) -> None:
        status, body, missing = self.left.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + missing))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_an_api_that_answers_otherwise_is_asked_again() -> None:
    Answers.left = [
        (503, b'{"detail": "Nothing is served yet."}', 0),
        (503, b'{"reasons": ["It ', 20),
        (502, b"<html>", 0),
        (503, b'{"reasons": ["No worker is alive."]}', 0),
        (200, b"{}", 0),
    ]
    reasons: list[str] = []
    with HTTPServer(("127.0.0.1", 0), Answers) as server, Supervisor(reasons.append, stop_s=1) as supervisor:
        threading.Thread(target=server.serve_forever).start()
        settings = Settings(port=server.server_port, host="127.0.0.1")
        try:
            Embedded(settings, "redis://", "redis://", supervisor).wait_until_ready(reasons.append)
        finally:
            server.shutdown()
    assert supervisor.was_ready
    assert reasons == ["The API is starting."] * 3 + ["No worker is alive."]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_message_that_cannot_be_written_ends_nothing() -> None:
    code = "from shared.commands.local_system import warn; warn('first'); warn('second'); print('goes on')"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, timeout=60)
    assert ended.stdout == b"goes on\n"
