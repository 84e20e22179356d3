"""Compose files, `.env` and README agree with the code and with one another; needs no Docker."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import redis
from dotenv import dotenv_values

from api.__main__ import GRACE_S
from shared.commands.redis_server import find_redis_server, free_port
from shared.settings import Settings
from tests.support.compose import BASE, GPU, compose, merged, services, started_by_default, valid, variables
from tests.support.dockerfile import environment, values
from tests.support.repository import ROOT
from tests.support.servers import answers, running, wait_for
from worker.process import COMPLETION_WAIT_S

VARIABLES = [name.upper() for name in Settings.model_fields]
MONITORING_PORTS = {"GRAFANA_PORT", "PROMETHEUS_PORT"}
"""Compose alone reads these; no setting of ours."""
ROLES = ("api", "worker")


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


@pytest.mark.parametrize("overlays", [[], [GPU]])
def test_what_runs_follows_the_compose_specification(tmp_path: Path, overlays: list[str]) -> None:
    content = compose()
    for overlay in overlays:
        assert valid(compose(overlay), tmp_path)
        content = merged(content, compose(overlay))
    assert valid(content, tmp_path)
    assert not valid(merged(content, {"services": {"worker": {"replica": 4}}}), tmp_path)


def test_one_command_starts_both_redis_roles_an_api_and_a_worker() -> None:
    assert set(started_by_default()) == {"queue-redis", "cache-redis", "api", "worker"}


def test_only_the_apis_port_is_published() -> None:
    published = {name: service["ports"] for name, service in started_by_default().items() if "ports" in service}
    assert published == {"api": ["${PORT:-80}:8000"]}
    assert services()["api"]["environment"]["PORT"] == "8000"
    assert services()["api"]["environment"]["HOST"] == "0.0.0.0"


def test_every_service_can_be_scaled() -> None:
    assert not any("container_name" in service for service in services().values())
    assert "ports" not in services()["worker"]


@pytest.mark.parametrize("name", [BASE, GPU])
def test_nothing_must_be_exported_first(name: str) -> None:
    assert variables(name)
    assert all(":-" in variable for variable in variables(name))


@pytest.mark.parametrize("name", [BASE, GPU])
def test_every_variable_is_a_setting_or_a_build_argument(name: str) -> None:
    arguments = {argument.partition("=")[0] for role in ROLES for argument in values(role, "ARG")}
    for role in set(ROLES) & set(services(name)):
        assert set(services(name)[role].get("environment", {})) <= set(VARIABLES)
        assert set(services(name)[role].get("build", {}).get("args", {})) <= arguments
    interpolated = {variable.partition(":-")[0] for variable in variables(name)}
    assert interpolated <= {*VARIABLES, *arguments, *MONITORING_PORTS}


@pytest.mark.parametrize("role", ROLES)
def test_what_an_image_sets_holds_against_the_env_file(role: str) -> None:
    """`.env` wins over the image, so compose says again what must hold in a container."""
    image = {name: value for name, value in environment(role).items() if name in VARIABLES}
    assert image.items() <= services()[role]["environment"].items()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_waits_for_both_redis_to_be_healthy_and_is_restarted(role: str) -> None:
    service = services()[role]
    assert service["restart"] == "unless-stopped"
    for instance in ("queue-redis", "cache-redis"):
        assert service["depends_on"][instance] == {"condition": "service_healthy"}
        assert services()[instance]["healthcheck"]["test"][:2] == ["CMD", "redis-cli"]
        assert services()[instance]["restart"] == "unless-stopped"


@pytest.mark.parametrize("role", ROLES)
def test_settings_come_from_the_env_file_and_redis_from_the_services(role: str) -> None:
    service = services()[role]
    assert service["env_file"] == [{"path": ".env", "required": False}]
    assert service["environment"]["REDIS_URL"] == "redis://queue-redis:6379/0"
    assert service["environment"]["CACHE_REDIS_URL"] == "redis://cache-redis:6379/0"
    assert f"data:{service['environment']['DATA_DIR']}" in service["volumes"]


def test_named_volumes_are_declared() -> None:
    mounted = {volume.partition(":")[0] for service in services().values() for volume in service.get("volumes", [])}
    used = {source for source in mounted if not source.startswith("./")}
    assert used == set(compose()["volumes"]) == {"cache", "data", "prometheus"}


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
        wait_for(lambda: answers(client), instance)
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


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_built_from_a_file_that_exists_and_keeps_its_health_check(role: str) -> None:
    build = services()[role]["build"]
    assert build["context"] == "."
    assert build["dockerfile"] == f"{role}/Dockerfile"
    assert "healthcheck" not in services()[role]
    assert len(values(role, "HEALTHCHECK")) == 1


def test_the_gpu_overlay_changes_the_worker_only() -> None:
    assert set(compose(GPU)) == {"services"}
    assert set(services(GPU)) == {"worker"}


def test_the_gpu_overlay_reserves_one_gpu_and_installs_cuda() -> None:
    worker = services(GPU)["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert "/whl/cu" in worker["build"]["args"]["TORCH_INDEX_URL"]
    assert worker["environment"]["DEVICE"] == "cuda"


@pytest.mark.parametrize("name", [BASE, GPU])
def test_no_compose_file_sets_a_part_of_the_fingerprint_for_one_role_only(name: str) -> None:
    for service in services(name).values():
        assert not {"DTYPE", "MODEL_ID", "MODEL_NAME", "MODEL_REVISION"} & set(service.get("environment", {}))


@pytest.mark.parametrize("name", [BASE, GPU])
@pytest.mark.usefixtures("no_settings")
def test_values_in_compose_files_are_valid_settings(name: str) -> None:
    for role in set(ROLES) & set(services(name)):
        environment = services(name)[role].get("environment", {})
        given = {key.lower(): re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value) for key, value in environment.items()}
        Settings.model_validate(given)


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
    given = {name.lower(): value for name, value in dotenv_values(ROOT / ".env").items() if value}
    assert Settings.model_validate(given) == Settings()


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
