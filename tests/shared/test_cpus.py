"""CPUs that the process may use: by its affinity, and by the quotas of its control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cpus import usable_cpus

HERE = len(os.sched_getaffinity(0))
V2, V1 = "0::/a/b\n", "11:memory:/x\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a\n"


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """Writes what a kernel shows under /proc and /sys."""
    for name, content in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def v1(group: str, quota: int, period: int = 100_000) -> dict[str, str]:
    directory = f"sys/fs/cgroup/cpu/{group}"
    return {f"{directory}cpu.cfs_quota_us": f"{quota}\n", f"{directory}cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, HERE),
        (V2, {}, HERE),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, HERE),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "100000 100000\n"}, 1),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "1000 100000\n"}, 1),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "100100 100000\n"}, min(HERE, 2)),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "9900000 100000\n"}, HERE),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "50000 50000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        ("0::/../else\n", {"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        (V2, {"sys/fs/cgroup/c/cpu.max": "100000 100000\n"}, HERE),
        (V1, v1("a/b/", 100_000), 1),
        (V1, v1("a/b/", -1), HERE),
        (V1, v1("", 50_000), 1),
        (V1, v1("x/", 50_000), HERE),
        (V1, v1("a/b/", 400_000, 200_000), min(HERE, 2)),
    ],
)
def test_a_quota_of_the_group_or_of_one_around_it_counts(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    assert usable_cpus(machine(tmp_path, groups, files)) == expected


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == HERE


def test_the_affinity_of_this_very_process_counts() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n" \
        "from shared.cpus import usable_cpus; print(usable_cpus())"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
