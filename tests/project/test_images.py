"""The Dockerfiles: what they say, and what comes of doing what they say."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from shared.commands.demo_run import demo_environment
from shared.commands.redis_server import free_port
from tests.support.dockerfile import dockerfile, entrypoint, environment, health_check, in_build_context, values
from tests.support.image_build import build, image_environment
from tests.support.repository import ROOT
from tests.support.servers import START_S, Stack, wait_for

ROLES = ("api", "worker")
HADOLINT = Path(sys.executable).with_name("hadolint")
CONSOLE_SCRIPT = Path(sys.executable).with_name("premise-server")


# -- what they say


@pytest.mark.parametrize("role", ROLES)
def test_the_linter_has_nothing_to_say(role: str) -> None:
    ended = subprocess.run([HADOLINT, ROOT / role / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_linter_looks(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN pip install numpy\n")
    ended = subprocess.run([HADOLINT, tmp_path / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert {"DL3006", "DL3013"} <= set(re.findall(r"DL\d+", ended.stdout))


@pytest.mark.parametrize("role", ROLES)
def test_everything_copied_exists_and_reaches_the_build(role: str) -> None:
    copied = [value.split() for value in values(role, "COPY") if not value.startswith("--from")]
    sources = [source for *listed, _target in copied for source in listed]
    assert {"pyproject.toml", "constraints.txt", "shared", role} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert in_build_context(source), source


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("api/app.py", True),
        ("shared/redis/lua/claim.lua", True),
        ("shared/demo/premises.tar.gz", True),
        (".env", False),
        (".venv/bin/python", False),
        ("data/hub/blob", False),
        ("deploy/kubernetes/base/api.yaml", False),
        ("tests/project/test_deployment.py", False),
        ("api/__pycache__/app.pyc", False),
        ("shared/demo/premises/revision", False),
    ],
)
def test_only_what_the_images_need_reaches_the_build(path: str, kept: bool) -> None:
    assert in_build_context(path) == kept


@pytest.mark.parametrize("role", ROLES)
def test_the_image_runs_a_command_that_exists(role: str) -> None:
    assert entrypoint(role) == ["premise-server", role]
    command = [str(CONSOLE_SCRIPT), role, "--help"]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@pytest.mark.parametrize("role", ROLES)
def test_images_are_pinned_multi_stage_and_do_not_run_as_root(role: str) -> None:
    stages = values(role, "FROM")
    assert len(stages) == 2
    assert len({stage.split()[0] for stage in stages}) == 1
    assert re.match(r"python:3\.12\.\d+-slim-\w+", stages[0])
    (user,) = values(role, "USER")
    assert f"--uid {user} " in values(role, "RUN")[-1]
    assert int(user) > 0
    assert values(role, "VOLUME") == [environment(role)["DATA_DIR"]]


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_installed_in_the_stage_that_is_kept(role: str) -> None:
    last = values(role, "COPY")[-1]
    assert last == "--from=build /opt/venv /opt/venv"
    kept = dockerfile(role)[[keyword for keyword, _ in dockerfile(role)].index("FROM", 1) :]
    assert [value.split()[0] for keyword, value in kept if keyword == "RUN"] == ["useradd"]


def test_both_images_agree_on_who_owns_the_volume_they_share() -> None:
    api_user, worker_user = (values(role, "RUN")[-1] for role in ROLES)
    assert api_user == worker_user
    assert api_user.startswith("useradd")


@pytest.mark.parametrize("role", ROLES)
def test_every_installation_is_held_to_the_pinned_versions(role: str) -> None:
    installations = [value for value in values(role, "RUN") if value.startswith("pip install")]
    assert installations[-1] == f"pip install -c constraints.txt '.[{role}]'"
    assert all("-c constraints.txt" in value for value in installations)


def test_only_the_worker_installs_torch_and_chooses_its_build_first() -> None:
    assert not any("torch" in value for value in values("api", "RUN"))
    torch, rest = (value for value in values("worker", "RUN") if value.startswith("pip install"))
    assert '--index-url "$TORCH_INDEX_URL" torch' in torch
    assert "torch" not in rest
    (argument,) = values("worker", "ARG")
    assert argument.endswith("/cpu")


# -- what comes of it


class Image(NamedTuple):
    """A built image's stand-in."""

    role: str
    root: Path

    @property
    def packages(self) -> dict[str, Distribution]:
        (site,) = (self.root / "opt/venv/lib").glob("python3*/site-packages")
        return {canonicalize_name(found.name): found for found in distributions(path=[str(site)])}


@pytest.fixture(scope="module", params=["api", "worker"])
def image(request: pytest.FixtureRequest) -> Iterator[Image]:
    """Built from the package index: the worker's is 1.2 GB and takes minutes."""
    if request.param not in os.environ.get("IMAGES", "").split():
        pytest.skip(f"IMAGES does not name {request.param}; `make images` builds it")
    # As with `docker build`; for where the Dockerfile's own index of torch builds cannot be reached.
    arguments = {name: os.environ[name] for name in ("TORCH_INDEX_URL",) if name in os.environ}
    with TemporaryDirectory(prefix="image-") as root:
        build(request.param, Path(root), arguments)
        yield Image(request.param, Path(root))


def declared(image: Image) -> set[str]:
    """The package of this repository with the role's extra, and all that it asks for here, directly or not."""
    seen: set[tuple[str, str]] = set()
    wanted = [("lean-premise-server", extra) for extra in ("", image.role)]
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for need in map(Requirement, image.packages[name].requires or []):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                wanted += [(canonicalize_name(need.name), of_need) for of_need in ("", *need.extras)]
    return {name for name, _ in seen}


@contextmanager
def started(image: Image, served: Stack, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """The image's role beside those of `served`, on the same Redis, and the environment it has."""
    given = {
        **demo_environment(),
        "REDIS_URL": served.queue.url,
        "CACHE_REDIS_URL": served.cache.url,
        "HOST": "127.0.0.1",
        "PORT" if image.role == "api" else "WORKER_METRICS_PORT": str(free_port()),
    }
    env = {**image_environment(image.role, image.root), **given}
    with log.open("wb") as out:
        process = subprocess.Popen(entrypoint(image.role), env=env, cwd=env["HOME"], stdout=out, stderr=out)
        try:
            yield process, env
        finally:
            process.kill()
            process.wait()


def serves(served: Stack, env: dict[str, str]) -> bool:
    """Whether the role answers a new state, or has embedded one."""
    state = f"a b : Nat\n⊢ a + b = b + a + {time.monotonic_ns()}"
    api_url = f"http://127.0.0.1:{env['PORT']}" if "PORT" in env else served.base_url
    try:
        answer = httpx.post(f"{api_url}/retrieve", json={"state": state, "k": 5}, timeout=60)
        if "PORT" in env:
            return answer.status_code == 200
        metrics = httpx.get(f"http://127.0.0.1:{env['WORKER_METRICS_PORT']}/metrics").text
    except httpx.TransportError:
        return False
    return re.search(r'premise_worker_texts_total{lane="interactive",outcome="embedded"} [1-9]', metrics) is not None


@pytest.mark.timeout(900)
def test_the_image_holds_what_is_declared_and_nothing_else(image: Image) -> None:
    assert set(image.packages) == declared(image)
    assert ("torch" in image.packages) == (image.role == "worker")
    assert ("faiss-cpu" in image.packages) == (image.role == "api")


@pytest.mark.timeout(900)
def test_the_image_serves_is_found_healthy_and_stops_cleanly(image: Image, served: Stack, tmp_path: Path) -> None:
    with started(image, served, tmp_path / "role.log") as (process, env):
        wait_for(lambda: serves(served, env), image.role, START_S)
        check = health_check(image.role)
        assert subprocess.run(check, env=env, cwd=env["HOME"], timeout=30).returncode == 0
        process.terminate()
        assert process.wait(30) == 0
        ill = subprocess.run(check, env=env, cwd=env["HOME"], timeout=30, capture_output=True)
        assert ill.returncode == 1
    # deploy/kubernetes gives a pod /data and /tmp to write to, and nothing else.
    assert not [*Path(env["HOME"]).rglob("*")]
