"""Several API processes on one port: they start once, stop together, and replace each other."""

import contextlib
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from api.processes import ASK_EVERY_S
from shared.commands.redis_server import free_port
from shared.supervisor import ChildReport, read_reports
from tests.support.servers import Stack, redis_server, running, wait_for, wait_until_ready

pytestmark = pytest.mark.timeout(300)  # up to five systems start in one test
API = [sys.executable, "-P", "-m", "api"]


def test_processes_that_start_at_once_build_once_and_share_a_port(served: Stack, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "api.log"
    env = {**served.env, "PORT": str(port), "API_PROCESSES": "3", "DATA_DIR": str(tmp_path / "data")}
    with running(API, env, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log)
        wait_for(lambda: log.read_text().count("ready, with embeddings") == 3, "all three", 60)
        assert log.read_text().count("building the index") == 1
        children = psutil.Process(process.pid).children()
        assert len(children) == 3
        answers = {httpx.post(f"{url}/retrieve", json={"state": "x", "k": 9}).content for _ in range(12)}
        assert len(answers) == 1
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive


def test_several_processes_stop_with_status_0(served: Stack, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "api.log"
    env = {**served.env, "PORT": str(port), "API_PROCESSES": "2"}
    with running(API, env, log) as process:
        wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        process.terminate()
        assert process.wait(30) == 0
    assert "Fatal" not in log.read_text()


def test_several_processes_stop_while_they_start(served: Stack, tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    env = {**served.env, "PORT": str(free_port()), "API_PROCESSES": "2"}
    with running(API, env, log) as process:
        wait_for(lambda: len(psutil.Process(process.pid).children()) == 2, "both")
        children = psutil.Process(process.pid).children()
        process.terminate()
        assert process.wait(30) == 0, log.read_text()
    _, alive = psutil.wait_procs(children, 5)
    assert not alive
    assert "Traceback" not in log.read_text()


def test_a_process_that_was_killed_is_replaced_and_meanwhile_the_others_answer(served: Stack, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "api.log"
    env = {**served.env, "PORT": str(port), "API_PROCESSES": "2"}
    with running(API, env, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log)
        wait_for(lambda: log.read_text().count("ready, with embeddings") == 2, "both", 60)
        psutil.Process(process.pid).children()[0].kill()
        statuses = []

        def replaced() -> bool:
            with contextlib.suppress(httpx.TransportError):  # a connection that the dead one had taken
                statuses.append(httpx.post(f"{url}/retrieve", json={"state": "x", "k": 1}).status_code)
            return log.read_text().count("ready, with embeddings") == 3

        wait_for(replaced, "the third", 60)
        assert set(statuses) == {200}


def test_a_process_that_cannot_start_again_leaves_the_others_serving(served: Stack, tmp_path: Path) -> None:
    """Its queue's Redis is away just then."""
    port, log = free_port(), tmp_path / "api.log"
    with redis_server(tmp_path) as queue:
        env = {**served.env, "PORT": str(port), "API_PROCESSES": "2", "REDIS_URL": queue.url}
        with (
            running([sys.executable, "-P", "-m", "worker"], env, tmp_path / "worker.log"),
            running(API, env, log) as process,
        ):
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, process, log)
            wait_for(lambda: log.read_text().count("ready, with embeddings") == 2, "both", 60)
            time.sleep(2 * ASK_EVERY_S)  # the parent has noticed that they are ready
            queue.process.kill()
            psutil.Process(process.pid).children()[0].kill()
            wait_for(lambda: "cannot be used" in log.read_text(), "the failing replacement", 30)
            time.sleep(1)
            assert process.poll() is None
            assert httpx.get(f"{url}/health/live").status_code == 200


def test_several_processes_that_cannot_start_are_one_failure(served: Stack, tmp_path: Path) -> None:
    env = {**served.env, "PORT": str(free_port()), "API_PROCESSES": "2", "DATA_REPO": str(tmp_path / "nowhere")}
    done = subprocess.run(API, env=env, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere is not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_dies_again_and_again_takes_nobody_down(served: Stack, tmp_path: Path) -> None:
    """Six deaths within seconds of the start, each told in the log and in the report."""
    port, log = free_port(), tmp_path / "api.log"
    env = {**served.env, "PORT": str(port), "API_PROCESSES": "2"}
    url = f"http://127.0.0.1:{port}"
    statuses: list[int] = []

    def dead() -> int:
        with contextlib.suppress(httpx.TransportError):  # a connection that the dead one had taken
            statuses.append(httpx.post(f"{url}/retrieve", json={"state": "x", "k": 1}).status_code)
        return log.read_text().count("The API process 1 stopped (SIGKILL)")

    with running(API, env, log) as process:
        wait_until_ready(url, process, log)
        wait_for(lambda: log.read_text().count("ready, with embeddings") == 2, "both", 60)
        victim, sibling = sorted(psutil.Process(process.pid).children(), key=psutil.Process.create_time)
        reports = sibling.environ()
        assert read_reports(reports) == [ChildReport(f"API process {i}", 0, None, None) for i in (1, 2)]
        for deaths in range(6):
            wait_for(lambda: len(psutil.Process(process.pid).children()) == 2, "the next one", 30)
            (victim,) = set(psutil.Process(process.pid).children()) - {sibling}
            victim.kill()
            wait_for(partial(lambda before: dead() > before, deaths), "the message")
        assert set(statuses) == {200}
        assert process.poll() is None
        assert sibling.is_running()
        first, second = read_reports(reports)
        assert first.next_start_s is not None and 10 < first.next_start_s <= 20
        assert first == ChildReport("API process 1", 5, "SIGKILL", first.next_start_s)
        assert second == ChildReport("API process 2", 0, None, None)
        assert "The API process 1 stopped (SIGKILL) and is started again in 20 s; restart 6." in log.read_text()
