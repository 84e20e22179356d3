"""The CPUs that this process may use: fewer than the machine has, in a container or under taskset."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs of the process's affinity, but no more than its control groups' quotas pay for; at least one.

    A quota of one and a half CPUs counts as two. `root` holds `proc` and `sys`.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """CPUs per quota of the process's control group and of all groups around it, in version 1 or 2 (cgroups(7))."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # In a container the path is often the host's, and the container's own group is mounted at the top.
        parts = Path(group.lstrip("/")).parts
        for depth in range(len(parts) + 1):
            yield from _quota(mount.joinpath(*parts[:depth]))


def _quota(group: Path) -> Iterator[float]:
    limits = _read(group / "cpu.max").split() or [
        *_read(group / "cpu.cfs_quota_us").split(),
        *_read(group / "cpu.cfs_period_us").split(),
    ]
    if len(limits) == 2 and limits[0] not in ("max", "-1"):
        yield int(limits[0]) / int(limits[1])


def _read(path: Path) -> str:
    """The file's content; empty if this system has no such file."""
    try:
        return path.read_text()
    except OSError:
        return ""
