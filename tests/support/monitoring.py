"""Configuration of Prometheus and Grafana, and the metrics that the code has for them."""

import json
from typing import Any

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.manifests import MANIFESTS
from tests.support.repository import ROOT
from worker.metrics import WorkerMetrics

MONITORING = ROOT / "deploy/monitoring"
DASHBOARD = MONITORING / "grafana/dashboards/premise-server.json"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def loaded(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((MONITORING / name).read_text(encoding="utf-8"))
    return parsed


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Every expression of the dashboard, with Grafana's variable filled in as it does, of the alerts and of KEDA."""
    shown = [target["expr"].replace("$__rate_interval", "1m") for panel in panels() for target in panel["targets"]]
    scaled = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in MANIFESTS.glob("*/scaled-object.yaml")]
    triggers = [trigger["metadata"]["query"] for one in scaled for trigger in one["spec"]["triggers"]]
    return [*shown, *(rule["expr"] for rule in rules()), *triggers]


def rules() -> list[dict[str, Any]]:
    return [rule for group in loaded("alerts.yaml")["groups"] for rule in group["rules"]]


def families(api_answer: str) -> list[Metric]:
    """What scrapes bring: of an API, whose `/metrics` is given, and of a worker."""
    found: list[Metric] = [*text_string_to_metric_families(api_answer), *WorkerMetrics().registry.collect()]
    return [family for family in found if not family.name.endswith("_created")]


def names(family: Metric) -> set[str]:
    return {f"{family.name.removesuffix('_total')}{suffix}" for suffix in SUFFIXES[family.type]}
