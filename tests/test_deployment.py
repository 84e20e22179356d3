"""Compose files, Dockerfiles, `.env` and README agree with the code and with one another; needs no Docker."""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from dotenv import dotenv_values

from api.__main__ import GRACE_S
from shared.redis_server import find_redis_server, free_port
from shared.settings import Settings
from tests.servers import running, wait_for
from worker.process import COMPLETION_WAIT_S

ROOT = Path(__file__).parent.parent
VARIABLES = [name.upper() for name in Settings.model_fields]
CONSOLE_SCRIPT = Path(sys.executable).with_name("premise-server")


def compose(name: str = "docker-compose.yaml") -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return parsed


def services(name: str = "docker-compose.yaml") -> dict[str, dict[str, Any]]:
    listed: dict[str, dict[str, Any]] = compose(name)["services"]
    return listed


def instructions(role: str, keyword: str) -> list[str]:
    """Arguments of each such instruction in the role's Dockerfile."""
    lines = (ROOT / role / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(f"{keyword} ") for line in lines if line.startswith(f"{keyword} ")]


def in_build_context(path: str) -> bool:
    """Whether `.dockerignore` lets a path through: the last pattern that matches it or a parent decides."""
    parents = [path, *map(str, Path(path).parents)][:-1]
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and any(_ignores(pattern, parent) for parent in parents):
            kept = line.startswith("!")
    return kept


def _ignores(pattern: str, path: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatchcase(Path(path).name, pattern.removeprefix("**/"))
    return pattern.count("/") == path.count("/") and fnmatchcase(path, pattern)


def settings_table() -> str:
    """README's table, from the class."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if str(field.default) else "(empty)"
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the environment nor a `.env` of the working directory sets anything."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


# -- compose


def test_one_command_starts_both_redis_roles_an_api_and_a_worker() -> None:
    assert set(services()) == {"queue-redis", "cache-redis", "api", "worker"}


def test_only_the_apis_port_is_published() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {"api": ["${PORT:-80}:8000"]}
    assert services()["api"]["environment"]["PORT"] == "8000"
    assert services()["api"]["environment"]["HOST"] == "0.0.0.0"


def test_every_service_can_be_scaled() -> None:
    assert not any("container_name" in service for service in services().values())
    assert "ports" not in services()["worker"]


@pytest.mark.parametrize("name", ["docker-compose.yaml", "docker-compose.gpu.yaml"])
def test_nothing_must_be_exported_first(name: str) -> None:
    used = re.findall(r"\$\{(.*?)\}", (ROOT / name).read_text(encoding="utf-8"))
    assert used
    assert all(":-" in variable for variable in used)


@pytest.mark.parametrize("name", ["docker-compose.yaml", "docker-compose.gpu.yaml"])
def test_every_variable_is_a_setting_or_a_build_argument(name: str) -> None:
    arguments = {argument.partition("=")[0] for role in ("api", "worker") for argument in instructions(role, "ARG")}
    for service in services(name).values():
        assert set(service.get("environment", {})) <= set(VARIABLES)
        assert set(service.get("build", {}).get("args", {})) <= arguments
    interpolated = re.findall(r"\$\{(\w+)", (ROOT / name).read_text(encoding="utf-8"))
    assert set(interpolated) <= {*VARIABLES, *arguments}


@pytest.mark.parametrize("role", ["api", "worker"])
def test_a_role_waits_for_both_redis_to_be_healthy_and_is_restarted(role: str) -> None:
    service = services()[role]
    assert service["restart"] == "unless-stopped"
    for instance in ("queue-redis", "cache-redis"):
        assert service["depends_on"][instance] == {"condition": "service_healthy"}
        assert services()[instance]["healthcheck"]["test"][:2] == ["CMD", "redis-cli"]
        assert services()[instance]["restart"] == "unless-stopped"


@pytest.mark.parametrize("role", ["api", "worker"])
def test_settings_come_from_the_env_file_and_redis_from_the_services(role: str) -> None:
    service = services()[role]
    assert service["env_file"] == [{"path": ".env", "required": False}]
    assert service["environment"]["REDIS_URL"] == "redis://queue-redis:6379/0"
    assert service["environment"]["CACHE_REDIS_URL"] == "redis://cache-redis:6379/0"
    assert f"data:{service['environment']['DATA_DIR']}" in service["volumes"]


def test_named_volumes_are_declared() -> None:
    used = {volume.partition(":")[0] for service in services().values() for volume in service.get("volumes", [])}
    assert used == set(compose()["volumes"]) == {"cache", "data"}


@pytest.mark.parametrize(("role", "code_s"), [("api", GRACE_S), ("worker", COMPLETION_WAIT_S)])
def test_containers_get_longer_to_stop_than_the_code_takes(role: str, code_s: int) -> None:
    grace = services()[role]["stop_grace_period"]
    assert grace.endswith("s")
    assert int(grace.removesuffix("s")) >= code_s + 5


@pytest.mark.parametrize(
    ("instance", "policy", "bounded", "save"),
    [("queue-redis", "noeviction", False, ""), ("cache-redis", "allkeys-lfu", True, "300 1")],
)
def test_redis_follows_its_role_when_started_with_the_command_of_the_service(
    tmp_path: Path, instance: str, policy: str, bounded: bool, save: str
) -> None:
    program, *options = services()[instance]["command"]
    assert program == "redis-server"
    port = free_port()
    local = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--logfile", "redis.log"]
    with running([str(find_redis_server()), *options, *local]), redis.Redis(port=port) as client:
        wait_for(lambda: _answers(client), instance)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": policy}
        assert (int(client.config_get("maxmemory")["maxmemory"]) > 0) == bounded
        assert client.config_get("save") == {"save": save}
        assert client.config_get("appendonly") == {"appendonly": "no"}


@pytest.mark.parametrize("instance", ["queue-redis", "cache-redis"])
def test_the_redis_image_is_pinned_to_a_version(instance: str) -> None:
    assert re.fullmatch(r"redis:\d+\.\d+\.\d+-alpine", services()[instance]["image"])


def test_the_cache_keeps_its_snapshots_on_a_volume_and_the_queue_needs_none() -> None:
    assert services()["cache-redis"]["volumes"] == ["cache:/data"]
    assert "volumes" not in services()["queue-redis"]


def test_the_apis_health_check_asks_the_live_route_of_its_own_port() -> None:
    *command, program = services()["api"]["healthcheck"]["test"]
    assert command == ["CMD", "python", "-c"]
    compile(program, "healthcheck", "exec")
    assert f"http://127.0.0.1:{services()['api']['environment']['PORT']}/health/live" in program


def test_the_gpu_overlay_changes_the_worker_only() -> None:
    assert set(compose("docker-compose.gpu.yaml")) == {"services"}
    assert set(services("docker-compose.gpu.yaml")) == {"worker"}


def test_the_gpu_overlay_reserves_one_gpu_and_installs_cuda() -> None:
    worker = services("docker-compose.gpu.yaml")["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert "/whl/cu" in worker["build"]["args"]["TORCH_INDEX_URL"]
    assert worker["environment"]["DEVICE"] == "cuda"


@pytest.mark.parametrize("name", ["docker-compose.yaml", "docker-compose.gpu.yaml"])
def test_no_compose_file_sets_a_part_of_the_fingerprint_for_one_role_only(name: str) -> None:
    for service in services(name).values():
        assert not {"DTYPE", "MODEL_ID", "MODEL_NAME", "MODEL_REVISION"} & set(service.get("environment", {}))


@pytest.mark.parametrize("name", ["docker-compose.yaml", "docker-compose.gpu.yaml"])
@pytest.mark.usefixtures("no_settings")
def test_values_in_compose_files_are_valid_settings(name: str) -> None:
    for service in services(name).values():
        values = {key.lower(): value for key, value in service.get("environment", {}).items()}
        Settings.model_validate(values)


# -- images


@pytest.mark.parametrize("role", ["api", "worker"])
def test_the_build_names_files_that_exist(role: str) -> None:
    build = services()[role]["build"]
    assert build["context"] == "."
    assert (ROOT / build["dockerfile"]).is_file()


@pytest.mark.parametrize("role", ["api", "worker"])
def test_everything_copied_exists_and_reaches_the_build(role: str) -> None:
    copied = [line.split() for line in instructions(role, "COPY") if not line.startswith("--from")]
    sources = [source for *listed, _target in copied for source in listed]
    assert {"pyproject.toml", "constraints.txt", "shared", role} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert in_build_context(source), source


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("api/app.py", True),
        ("shared/lua/claim.lua", True),
        ("shared/demo/premises.tar.gz", True),
        (".env", False),
        (".venv/bin/python", False),
        ("data/hub/blob", False),
        ("tests/test_deployment.py", False),
        ("api/__pycache__/app.pyc", False),
        ("shared/demo/premises/revision", False),
    ],
)
def test_only_what_the_images_need_reaches_the_build(path: str, kept: bool) -> None:
    assert in_build_context(path) == kept


@pytest.mark.parametrize("role", ["api", "worker"])
def test_the_image_runs_a_command_that_exists(role: str) -> None:
    (entrypoint,) = instructions(role, "ENTRYPOINT")
    assert yaml.safe_load(entrypoint) == ["premise-server", role]
    command = [str(CONSOLE_SCRIPT), role, "--help"]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == 0


@pytest.mark.parametrize("role", ["api", "worker"])
def test_images_are_pinned_multi_stage_and_do_not_run_as_root(role: str) -> None:
    stages = instructions(role, "FROM")
    assert len(stages) == 2
    assert len({stage.split()[0] for stage in stages}) == 1
    assert re.match(r"python:3\.12\.\d+-slim-\w+", stages[0])
    assert instructions(role, "USER") == ["premise"]
    assert instructions(role, "VOLUME") == [services()[role]["environment"]["DATA_DIR"]]


def test_both_images_agree_on_who_owns_the_volume_they_share() -> None:
    (api_user,) = (line for line in instructions("api", "RUN") if line.startswith("useradd"))
    (worker_user,) = (line for line in instructions("worker", "RUN") if line.startswith("useradd"))
    assert api_user == worker_user


@pytest.mark.parametrize("role", ["api", "worker"])
def test_every_installation_is_held_to_the_pinned_versions(role: str) -> None:
    installations = [line for line in instructions(role, "RUN") if line.startswith("pip install")]
    assert installations[-1] == f"pip install -c constraints.txt '.[{role}]'"
    assert all("-c constraints.txt" in line for line in installations)


def test_only_the_worker_installs_torch_and_chooses_its_build_first() -> None:
    assert not any("torch" in line for line in instructions("api", "RUN"))
    torch, rest = (line for line in instructions("worker", "RUN") if line.startswith("pip install"))
    assert '--index-url "$TORCH_INDEX_URL" torch' in torch
    assert "torch" not in rest
    (argument,) = instructions("worker", "ARG")
    assert argument.endswith("/cpu")


# -- .env and README


def test_env_lists_exactly_the_settings_once_each_in_their_order() -> None:
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    assert [line.partition("=")[0] for line in lines if line and not line.startswith("#")] == VARIABLES


def test_every_setting_in_env_has_its_reason_above_it() -> None:
    lines = (ROOT / ".env").read_text(encoding="utf-8").splitlines()
    for above, line in pairwise(lines):
        if line and not line.startswith("#"):
            assert above.startswith("# "), line
            assert not above.startswith("# --"), line


@pytest.mark.usefixtures("no_settings")
def test_env_holds_the_defaults() -> None:
    values = {name.lower(): value for name, value in dotenv_values(ROOT / ".env").items() if value}
    assert Settings.model_validate(values) == Settings()


def test_env_reads_the_same_to_docker_and_to_python() -> None:
    """Neither quotes nor inline comments nor interpolation, on which their formats differ."""
    for name, value in dotenv_values(ROOT / ".env").items():
        assert value is not None
        assert re.fullmatch(r"[\w./:-]*", value), name
        assert f"\n{name}={value}\n" in (ROOT / ".env").read_text(encoding="utf-8")


def test_readme_lists_every_setting_with_default_and_meaning() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", readme, re.DOTALL)
    assert table.strip() == settings_table()


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
