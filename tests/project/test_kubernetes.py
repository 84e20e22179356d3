"""The Kubernetes manifests: valid for the API server, and in agreement with the images and the code."""

import re
import shutil
import subprocess
import tomllib

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values

from api.__main__ import GRACE_S
from shared.settings import Settings
from tests.support.compose import services
from tests.support.dockerfile import environment, values
from tests.support.manifests import MANIFESTS, Manifest, base, manifests
from tests.support.repository import ROOT
from worker.process import COMPLETION_WAIT_S

KUBERNETES = "1.37"
CUSTOM = {"ScaledObject", "PodMonitor"}
"""Of KEDA and the Prometheus operator: no package index has their schemas."""
ROLES = ("api", "worker")


def built(overlay: str) -> list[Manifest]:
    """What `kubectl apply -k` sends."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed; only the manifests it would merge are checked")
    ended = subprocess.run([kubectl, "kustomize", MANIFESTS / overlay], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return list(yaml.safe_load_all(ended.stdout))


def only(listed: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (one for one in listed if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pods(listed: list[Manifest]) -> dict[str, Manifest]:
    """Pod specifications by the name of what runs them."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in listed if "template" in one.get("spec", {})
    }


def container(pod: Manifest) -> Manifest:
    (only_one,) = pod["containers"]
    found: Manifest = only_one
    return found


def check(listed: list[Manifest]) -> None:
    for manifest in listed:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_base_is_valid() -> None:
    check(base())
    check(manifests("secret.example.yaml"))


@pytest.mark.parametrize("overlay", ["base", "cpu", "gpu"])
def test_what_is_applied_is_valid(overlay: str) -> None:
    check(built(overlay))


def test_a_misspelt_field_is_found() -> None:
    worker = only(base(), "Deployment", "worker")
    with pytest.raises(kubernetes_validate.ValidationError):
        check([{**worker, "spec": {**worker["spec"], "replica": 4}}])


def test_nothing_is_tied_to_a_namespace() -> None:
    assert not any("namespace" in manifest["metadata"] for manifest in base())


@pytest.mark.parametrize("name", ["api", "worker", "queue-redis", "cache-redis"])
def test_every_pod_is_confined(name: str) -> None:
    pod = pods(base())[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("role", ROLES)
def test_pods_run_as_the_images_user_and_may_write_where_the_code_does(role: str) -> None:
    pod = pods(base())[role]
    assert [str(pod["securityContext"]["runAsUser"])] == values(role, "USER")
    mounted = {mount["mountPath"] for mount in container(pod)["volumeMounts"]}
    assert mounted == {environment(role)["DATA_DIR"], "/tmp"}


@pytest.mark.parametrize("role", ROLES)
def test_values_are_valid_settings_and_both_roles_read_the_same(role: str) -> None:
    secret = only(manifests("secret.example.yaml"), "Secret", "premise-server")["stringData"]
    given = {**environment(role), **dotenv_values(MANIFESTS / "base/settings.env")}
    for entry in container(pods(base())[role])["env"]:
        source = entry.get("valueFrom", {})
        if "secretKeyRef" in source:
            assert source["secretKeyRef"]["name"] == "premise-server"
            given[entry["name"]] = secret[source["secretKeyRef"]["key"]]
        else:
            given[entry["name"]] = entry.get("value", "4")
    own = {"REDIS_PASSWORD", "PATH"}
    assert set(given) - own <= {name.upper() for name in Settings.model_fields}
    expanded = {
        name.lower(): re.sub(r"\$\((\w+)\)", lambda m: given[m[1]] or "", value or "") for name, value in given.items()
    }
    settings = Settings.model_validate({name: value for name, value in expanded.items() if value})
    assert settings.redis_url == f"redis://:{secret['REDIS_PASSWORD']}@queue-redis:6379/0"
    assert settings.cache_url == f"redis://:{secret['REDIS_PASSWORD']}@cache-redis:6379/0"
    assert {entry["configMapRef"]["name"] for entry in container(pods(base())[role])["envFrom"]} == {"settings"}


@pytest.mark.parametrize(("role", "code_s", "before_s"), [("api", GRACE_S, 5), ("worker", COMPLETION_WAIT_S, 0)])
def test_pods_get_longer_to_stop_than_the_code_takes(role: str, code_s: int, before_s: int) -> None:
    pod = pods(base())[role]
    sleep = container(pod).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert sleep == before_s
    assert pod["terminationGracePeriodSeconds"] >= sleep + code_s + 5


def test_probes_ask_routes_that_need_no_key_and_workers_do_not_decide_whether_the_api_serves() -> None:
    from api.http.api_key import OPEN

    api = container(pods(base())["api"])
    asked = {probe: api[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    assert asked == {"startup": "/health/ready", "readiness": "/health/live", "liveness": "/health/live"}
    assert set(asked.values()) <= set(OPEN)


@pytest.mark.parametrize(("role", "port"), [("api", "PORT"), ("worker", "WORKER_METRICS_PORT")])
def test_ports_and_probes_are_those_that_the_image_listens_on(role: str, port: str) -> None:
    described = container(pods(base())[role])
    (listening,) = described["ports"]
    assert str(listening["containerPort"]) == environment(role)[port]
    probes = [value["httpGet"]["port"] for key, value in described.items() if key.endswith("Probe")]
    assert set(probes) == {listening["name"]}


@pytest.mark.parametrize("instance", ["queue-redis", "cache-redis"])
def test_redis_is_the_one_that_compose_starts_with_a_password(instance: str) -> None:
    described = container(pods(base())[instance])
    assert described["image"] == services()[instance]["image"]
    assert described["args"] == [*services()[instance]["command"], "--requirepass", "$(REDIS_PASSWORD)"]


def test_selectors_find_their_pods() -> None:
    labelled = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in base()
        if "template" in one.get("spec", {})
    }
    for manifest in base():
        name, spec = manifest["metadata"]["name"], manifest["spec"]
        if "selector" in spec:
            wanted = spec["selector"].get("matchLabels", spec["selector"])
            assert wanted.items() <= labelled[name].items()
        elif "scaleTargetRef" in spec:
            assert only(base(), spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"])


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_scaled_objects_have_the_form_that_keda_documents(overlay: str) -> None:
    """Without their schema, so by hand. Source: keda.sh/docs, "ScaledObject specification", "Prometheus" scaler."""
    applied = built(overlay)
    scaled = only(applied, "ScaledObject", "worker")
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    spec = scaled["spec"]
    assert set(spec) == {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "fallback", "advanced", "triggers",
    }  # fmt: skip
    assert "replicas" not in only(applied, "Deployment", spec["scaleTargetRef"]["name"])["spec"]
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert set(spec["fallback"]) == {"failureThreshold", "replicas"}
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert set(trigger["metadata"]) == {"serverAddress", "query", "threshold"}
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    assert float(trigger["metadata"]["threshold"]) > 0


@pytest.mark.parametrize("role", ROLES)
def test_pod_monitors_scrape_the_ports_that_pods_name(role: str) -> None:
    monitor = next(one for one in manifests("autoscaling/pod-monitors.yaml") if one["metadata"]["name"] == role)
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container(pods(base())[role])["ports"]}
    assert endpoint["path"] == "/metrics"
    assert ("authorization" in endpoint) == (role == "api")


def test_the_gpu_overlay_gives_a_worker_one_gpu_and_what_compose_sets_for_it() -> None:
    worker = container(pods(built("gpu"))["worker"])
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    given = {entry["name"]: entry.get("value") for entry in worker["env"]}
    assert services("docker-compose.gpu.yaml")["worker"]["environment"].items() <= given.items()


def test_the_images_have_the_version_of_the_program() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    (kustomization,) = manifests("base/kustomization.yaml")
    assert {image["newTag"] for image in kustomization["images"]} == {version}
    assert {image["name"] for image in kustomization["images"]} == {
        container(pods(base())[role])["image"] for role in ROLES
    }
