"""Prometheus' configuration, its alerts and Grafana's dashboard name what compose starts and what the code exposes."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import promql_parser
import pytest
from prometheus_client import Metric

from tests.support.compose import compose, services
from tests.support.dockerfile import environment
from tests.support.monitoring import DASHBOARD, MONITORING, families, loaded, names, panels, queries, rules
from tests.support.repository import ROOT

OWN = {"up"}
"""What Prometheus itself says of every target."""


def named(expression: object) -> Iterator[str]:
    """Metrics in a parsed expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        assert expression.name is not None
        yield expression.name
    parts = [getattr(expression, field, None) for field in ("expr", "lhs", "rhs", "vector_selector", "param")]
    for part in [*parts, *getattr(expression, "args", [])]:
        if part is not None:
            yield from named(part)


@pytest.fixture(scope="module")
def exposed(client: httpx.Client) -> list[Metric]:
    return families(client.get("/metrics").text)


@pytest.mark.parametrize("query", queries())
def test_every_query_names_metrics_that_are_exposed(query: str, exposed: list[Metric]) -> None:
    metrics = set(named(promql_parser.parse(query)))
    assert metrics
    assert metrics <= OWN.union(*map(names, exposed))


def test_every_metric_of_ours_is_shown(exposed: list[Metric]) -> None:
    shown = {name for query in queries() for name in named(promql_parser.parse(query))}
    hidden = [family.name for family in exposed if family.name.startswith("premise_") and not names(family) & shown]
    assert not hidden


def test_panels_have_their_own_ids_and_places_and_the_datasource_that_is_provisioned() -> None:
    (source,) = loaded("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert {panel["datasource"]["uid"] for panel in panels()} == {source["uid"]}
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()}) == len(panels())
    assert source["url"] == "http://prometheus:9090"
    (provider,) = loaded("grafana/provisioning/dashboards/files.yaml")["providers"]
    assert (
        f"./deploy/monitoring/grafana/dashboards:{provider['options']['path']}:ro" in services()["grafana"]["volumes"]
    )
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{DASHBOARD.name}"


def test_prometheus_scrapes_every_replica_of_both_roles() -> None:
    jobs = {job["job_name"]: job for job in loaded("prometheus.yaml")["scrape_configs"]}
    ports = {"api": services()["api"]["environment"]["PORT"], "worker": environment("worker")["WORKER_METRICS_PORT"]}
    for role, port in ports.items():
        (discovery,) = jobs[role]["dns_sd_configs"]
        assert discovery["names"] == [role]
        assert (discovery["type"], discovery["port"]) == ("A", int(port))
    assert set(jobs) == set(ports)


def test_prometheus_sends_the_api_key() -> None:
    jobs = {job["job_name"]: job for job in loaded("prometheus.yaml")["scrape_configs"]}
    (config,) = services()["prometheus"]["configs"]
    assert jobs["api"]["authorization"] == {"credentials_file": f"/{config}"}
    assert compose()["configs"][config] == {"content": "${API_KEY:-none}"}


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_monitoring_is_asked_for_pinned_and_reached_from_this_machine_only(service: str) -> None:
    described = services()[service]
    assert described["profiles"] == ["monitoring"]
    assert described["image"].rpartition(":")[2].lstrip("v").count(".") == 2
    assert all(port.startswith("127.0.0.1:") for port in described["ports"])
    mounted = [volume.split(":")[0] for volume in described["volumes"] if volume.startswith("./")]
    assert mounted
    assert all((ROOT / source).exists() for source in mounted)


def test_every_alert_says_what_is_wrong_and_waits_before_it_does() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["for"]


@pytest.mark.parametrize("check", [("rules", "alerts.yaml"), ("config", "--syntax-only", "prometheus.yaml")])
def test_prometheus_own_tool_accepts_it(check: tuple[str, ...], tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    *command, name = check
    ended = subprocess.run(
        [promtool, "check", *command, MONITORING / name], capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
