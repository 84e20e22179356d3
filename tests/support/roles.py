"""Single roles as processes: an API that becomes ready, and a role that refuses to start."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shared.commands.redis_server import free_port
from tests.support.servers import running, wait_until_ready


@contextmanager
def worker_process(env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with running([sys.executable, "-P", "-m", "worker"], env, log) as process:
        yield process


@contextmanager
def api_process(
    env: Mapping[str, str], log: Path, *, ready: bool = True
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """An API process on a free port and its base URL; waits for it to be ready unless told not to."""
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    with running([sys.executable, "-P", "-m", "api"], {**env, "HOST": "127.0.0.1", "PORT": str(port)}, log) as process:
        if ready:
            wait_until_ready(base_url, process, log)
        yield process, base_url


def refusal(role: str, env: Mapping[str, str], directory: Path) -> str:
    """The one sentence with which a role ends that cannot start."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", role],
        env={**env, "HOST": "127.0.0.1", "PORT": str(free_port())},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    *_, last = ended.stderr.splitlines()
    assert last.startswith(f"{role}: ")
    assert last.endswith(".")
    return last.removeprefix(f"{role}: ")
