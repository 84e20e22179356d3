"""All checks, in the order in which one would look: settings first, what needs everything else last."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from shared.commands.doctor.machine import disk_findings, port_findings, settings_findings, version_findings
from shared.commands.doctor.model_findings import model_findings, worker_findings
from shared.commands.doctor.parts import installed, part
from shared.commands.doctor.redis_roles import redis_findings
from shared.errors import StartupError
from shared.finding import Check, Finding, found
from shared.settings import Settings, load_settings


def examine(tell: Callable[[str], None]) -> Iterator[Finding]:
    """Findings as they are made; `tell` gets what is looked at next."""
    tell("versions")
    yield from found("versions", version_findings)
    try:
        settings = load_settings()
    except StartupError as error:
        yield Finding("problem", "settings", str(error), "Correct it in the environment or in .env.")
        return
    # These import torch and faiss and read the index, meanwhile.
    with ThreadPoolExecutor(2) as others:
        api = others.submit(part, "api", "the data was not looked at")
        worker = others.submit(part, "worker", "the device was not looked at")
        yield from _looked_at(settings, api, worker, tell)


def _looked_at(
    settings: Settings, api: "Future[list[Finding]]", worker: "Future[list[Finding]]", tell: Callable[[str], None]
) -> Iterator[Finding]:
    checks: dict[str, Check] = {
        "settings": lambda: settings_findings(settings),
        "DATA_DIR": lambda: disk_findings(settings),
        **({"port": lambda: port_findings(settings)} if installed("api") else {}),
        "Redis": lambda: redis_findings(settings),
        "model": lambda: model_findings(settings, weights=installed("worker")),
        "workers": lambda: worker_findings(settings),
        "data": api.result,
        "device": worker.result,
    }
    for subject, check in checks.items():
        tell(subject)
        yield from found(subject, check)
