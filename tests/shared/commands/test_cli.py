"""The commands, run as a person runs them: what they print, how they fail, and that nothing is left behind."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from shared.commands.loopback import base_url
from shared.commands.redis_server import free_port
from tests.support.servers import Stack, redis_server, role_env, running, wait_for, wait_until_ready

SCRIPT = str(Path(sys.executable).with_name("premise-server"))
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def data(served: Stack) -> Path:
    """The folder of a DATA_DIR in which the demo corpus is embedded already."""
    return Path(served.env["DATA_DIR"]).parent


def fails(command: str, directory: Path, **settings: str) -> str:
    """Run a command that must fail; what it wrote to standard error."""
    finished = subprocess.run(
        [SCRIPT, *command.split()],
        env=role_env(directory, **settings),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr + finished.stdout
    return finished.stderr


def is_gone(process: psutil.Process) -> bool:
    """Ended; a container's first process may leave its entry behind."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_gone(processes: list[psutil.Process]) -> bool:
    return all(is_gone(process) for process in processes)


def children_by_role(launcher: int) -> dict[str, psutil.Process]:
    """The launcher's children, each under what it is."""
    roles = {
        r"-m api": "api",
        r"-m worker": "worker",
        r"-m shared\.commands\.orphan_guard": "guard",
        r"redis-server": "redis",
    }
    found: dict[str, psutil.Process] = {}
    for child in psutil.Process(launcher).children():
        (role,) = (role for pattern, role in roles.items() if re.search(pattern, " ".join(child.cmdline())))
        found[role if role not in found else f"second {role}"] = child
    return found


# -- help


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("--help", "Premise selection server for Lean"),
        ("serve --help", "Run everything on this machine"),
        ("demo --help", "small bundled corpus and model"),
        ("api --help", "Run the API"),
        ("worker --help", "Run one worker process"),
        ("doctor --help", "Look at settings, Redis, model, data, device and workers"),
        ("cache --help", "Look into the embedding cache"),
    ],
)
def test_help_says_what_a_command_does(command: str, says: str, tmp_path: Path) -> None:
    finished = subprocess.run([SCRIPT, *command.split()], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert finished.returncode == 0
    assert says in finished.stdout
    assert finished.stderr == ""


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    finished = subprocess.run([SCRIPT], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert "Premise selection server for Lean" in finished.stdout + finished.stderr


# -- what goes wrong


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("retrieve", "No such command 'retrieve'"),
        ("api --prot 80", "No such option: --prot"),
        ("api --port 0", "should be greater than or equal to 1"),
        ("serve --workers 0", "should be greater than or equal to 1"),
    ],
)
def test_a_mistyped_command_line_is_explained(command: str, says: str, tmp_path: Path) -> None:
    assert says in fails(command, tmp_path)


@pytest.mark.parametrize("command", ["api", "worker", "serve"])
def test_an_invalid_setting_is_one_sentence(command: str, tmp_path: Path) -> None:
    error = fails(command, tmp_path, DTYPE="int8")
    assert "Setting DTYPE: Input should be 'float32'" in error
    assert len(error.splitlines()) == 1


def test_an_unreachable_redis_is_one_sentence(tmp_path: Path) -> None:
    with ExitStack() as stack:
        roles = {
            role: stack.enter_context(
                subprocess.Popen(
                    [SCRIPT, role],
                    env=role_env(tmp_path, REDIS_URL=NOWHERE, PORT=str(free_port())),
                    cwd=tmp_path,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for role in ("api", "worker")
        }
        for role, process in roles.items():
            _, error = process.communicate(timeout=60)
            assert process.returncode == 1
            assert error.startswith(f"{role}: Redis at redis://127.0.0.1:1/0 (REDIS_URL) cannot be used: ")
            assert len(error.splitlines()) == 1


def test_missing_data_is_one_sentence_of_the_api(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        error = fails("api", tmp_path, REDIS_URL=redis.url, PORT=str(free_port()), DATA_REPO="/nonexistent/data")
    assert error.splitlines() == ["api: DATA_REPO /nonexistent/data is not a directory."]


def test_a_missing_model_is_one_sentence_of_the_worker(tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis:
        error = fails("worker", tmp_path, REDIS_URL=redis.url, MODEL_ID="./nonexistent")
    assert error.splitlines() == ["worker: MODEL_ID ./nonexistent is not a directory."]


def test_serve_tells_why_a_child_stopped_and_leaves_nothing_running(tmp_path: Path) -> None:
    error = fails(f"serve --port {free_port()}", tmp_path, MODEL_ID="./nonexistent")
    assert "MODEL_ID ./nonexistent is not a directory." in error
    assert re.search(r"^premise-server: The (API|worker 1) stopped \(exit status 1\)\.$", error, re.MULTILINE)
    assert not any(str(tmp_path) in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))


@pytest.mark.parametrize("command", ["api", "serve"])
def test_a_port_in_use_is_one_sentence(command: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = fails(f"{command} --port {port}", tmp_path, REDIS_URL=NOWHERE)
    assert f"Cannot listen on 127.0.0.1:{port} (HOST, PORT): Address already in use." in error
    assert len(error.splitlines()) == 1


def test_a_data_directory_that_cannot_be_one_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    error = fails(f"serve --port {free_port()}", tmp_path)
    assert error == f"premise-server: DATA_DIR {tmp_path / 'data'} cannot be used: Not a directory.\n"


def test_a_folder_named_as_a_role_is_not_run_instead(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").touch()
    (tmp_path / "api" / "__main__.py").write_text("raise SystemExit('somebody else')")
    assert "Setting DTYPE" in fails("api", tmp_path, DTYPE="int8")


# -- running and stopping


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("[::]", "http://[::1]:80"),
        ("lean.example.org", "http://lean.example.org:80"),
    ],
)
def test_the_url_shown_can_be_opened_on_this_machine(host: str, url: str) -> None:
    assert base_url(host, 80) == url


@pytest.fixture
def demo(data: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, int]]:
    """A running demo, its output and its port. The environment names a proxy that does not exist."""
    port, log = free_port(), data / f"demo-{time.monotonic_ns()}.log"
    env = role_env(data, http_proxy="http://127.0.0.1:1", PYTHONUNBUFFERED="1")
    for name in ("MODEL_ID", "MODEL_NAME", "DATA_REPO", "no_proxy", "NO_PROXY"):
        env.pop(name, None)
    with running([SCRIPT, "demo", "--port", str(port)], env, log) as launcher:
        wait_for(lambda: launcher.poll() is not None or b"Ctrl-C stops" in log.read_bytes(), "the demo", 90)
        assert launcher.poll() is None, log.read_text()
        yield launcher, log, port


@pytest.mark.timeout(300)  # its fixtures start the tests' own system and the demo
def test_the_demo_answers_shows_a_goal_and_stops_with_all_its_children(
    demo: tuple[subprocess.Popen[bytes], Path, int], data: Path
) -> None:
    launcher, log, port = demo
    assert "Nat.add_comm" in log.read_text()
    assert httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False).status_code == 200
    children = children_by_role(launcher.pid)
    assert set(children) == {"api", "worker", "guard", "redis", "second redis"}

    children["api"].kill()
    wait_for(
        lambda: "The API stopped (SIGKILL) and is started again in 0.2 s; restart 1." in log.read_text(), "the message"
    )
    wait_for(lambda: "api" in children_by_role(launcher.pid), "another API")
    everything = [*children.values(), *psutil.Process(launcher.pid).children(recursive=True)]

    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(45) == 0
    wait_for(lambda: all_gone(everything), "the end of every child", 1)
    assert "Stopped." in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (data / "data" / "redis" / "dump.rdb").stat().st_size > 1_000, "the cache was not kept"


@pytest.mark.timeout(300)
def test_children_of_a_killed_launcher_end_within_15_seconds(
    demo: tuple[subprocess.Popen[bytes], Path, int],
) -> None:
    launcher, log, _ = demo
    children = children_by_role(launcher.pid)
    assert set(children) == {"api", "worker", "guard", "redis", "second redis"}
    everything = psutil.Process(launcher.pid).children(recursive=True)
    launcher.kill()
    launcher.wait(5)
    wait_for(lambda: all_gone(everything), "the end of every child", 15)
    assert "Traceback" not in log.read_text()


def test_sigterm_ends_api_and_worker_with_status_0(data: Path, tmp_path: Path) -> None:
    with redis_server(tmp_path) as queue, redis_server(tmp_path, cache=True) as cache:
        port = free_port()
        env = role_env(data, REDIS_URL=queue.url, CACHE_REDIS_URL=cache.url, PORT=str(port), HOST="127.0.0.1")
        worker_log, api_log = tmp_path / "worker.log", tmp_path / "api.log"
        with running([SCRIPT, "worker"], env, worker_log) as worker, running([SCRIPT, "api"], env, api_log) as api:
            wait_until_ready(f"http://127.0.0.1:{port}", api, api_log)
            for process, log in ((api, api_log), (worker, worker_log)):
                process.terminate()
                assert process.wait(40) == 0, log.read_text()
                assert "Traceback" not in log.read_text()


def test_what_is_taken_back_from_the_guard_is_not_ended() -> None:
    """A number may belong to another process by the time the launcher ends."""
    with (
        running(["sleep", "60"]) as kept,
        running(["sleep", "60"]) as ended,
        subprocess.Popen([sys.executable, "-m", "shared.commands.orphan_guard"], stdin=subprocess.PIPE) as guard,
    ):
        assert guard.stdin is not None
        guard.stdin.write(f"{kept.pid}\n{ended.pid}\n-{kept.pid}\n".encode())
        guard.stdin.close()
        assert ended.wait(15) == -signal.SIGTERM
        assert guard.wait(15) == 0
        assert kept.poll() is None
