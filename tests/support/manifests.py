"""The Kubernetes manifests as they are in the repository, before kustomize merges them."""

from typing import Any

import yaml

from tests.support.repository import ROOT

MANIFESTS = ROOT / "deploy/kubernetes"
Manifest = dict[str, Any]


def manifests(path: str) -> list[Manifest]:
    return list(yaml.safe_load_all((MANIFESTS / path).read_text(encoding="utf-8")))


def base() -> list[Manifest]:
    (kustomization,) = manifests("base/kustomization.yaml")
    return [manifest for path in kustomization["resources"] for manifest in manifests(f"base/{path}")]
