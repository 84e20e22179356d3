"""Settings, versions, disk and port: what needs neither Redis nor a model."""

import json
import os
import platform
import re
import shutil
import urllib.error
import urllib.request
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic_settings import DotEnvSettingsSource

from shared.commands.loopback import ask, base_url
from shared.errors import StartupError
from shared.finding import Finding
from shared.listen import require_free
from shared.settings import Settings

PACKAGE = "lean-premise-server"
LIBRARIES = ("arq", "redis", "numpy", "huggingface_hub", "msgspec", "faiss-cpu", "fastapi", "uvicorn", "torch",
             "transformers", "tokenizers")  # fmt: skip
"""Those whose versions matter most; each is looked for only if installed."""
SIMILAR = 0.85
ENOUGH_BYTES = 5 << 30
"""Downloads of 1.6 GB with the defaults, the index built from them (1.6 GB), and room to build the next one."""
LEAST_BYTES = 100 << 20


def settings_findings(settings: Settings) -> list[Finding]:
    changed = sorted(name.upper() for name in settings.model_fields_set)
    findings = [Finding("ok", "settings", f"Valid. Set: {', '.join(changed) or 'nothing, all defaults'}.")]
    names = [name.upper() for name in Settings.model_fields]
    in_file = DotEnvSettingsSource(Settings).env_vars
    for given in sorted({name.upper() for name in (*in_file, *os.environ)} - set(names)):
        near = get_close_matches(given, names, 1, SIMILAR)
        if near:
            findings.append(
                Finding("warning", "settings", f"{given} is no setting and changes nothing.", f"Write {near[0]}.")
            )
    if settings.host not in ("127.0.0.1", "::1", "localhost") and not settings.api_key.get_secret_value():
        sentence = f"HOST is {settings.host} and API_KEY is empty: whoever reaches the port may ask."
        findings.append(Finding("warning", "settings", sentence, "Set API_KEY, unless a proxy or network guards it."))
    return findings


def version_findings() -> list[Finding]:
    installed = {name: found for name in LIBRARIES if (found := _version(name))}
    listed = ", ".join(f"{name} {number}" for name, number in installed.items())
    sentence = f"{PACKAGE} {_version(PACKAGE) or 'not installed'}, Python {platform.python_version()}, {listed}."
    pinned = _pinned()
    differing = [
        f"{name} {number} (tested with {pinned[name.lower()]})"
        for name, number in installed.items()
        if name.lower() in pinned and number.partition("+")[0] != pinned[name.lower()]
    ]
    findings = [Finding("ok", "versions", sentence)]
    if differing:
        advice = "Install again with `pip install -c constraints.txt`."
        findings.append(Finding("warning", "versions", f"Not as tested: {', '.join(differing)}.", advice))
    return findings


def disk_findings(settings: Settings) -> list[Finding]:
    directory = settings.data_dir.resolve()
    there = next(path for path in (directory, *directory.parents) if path.exists())
    free = shutil.disk_usage(there).free
    sentence = f"{directory} is on a disk with {free / 1e9:.1f} GB free."
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        sentence = f"{directory} cannot be written."
        advice = "Name a folder in DATA_DIR that this user may write."
        return [Finding("problem", "DATA_DIR", sentence, advice)]
    if free < LEAST_BYTES:
        return [Finding("problem", "DATA_DIR", sentence, "Make room, or name another place in DATA_DIR.")]
    if free < ENOUGH_BYTES and not (directory / "index").is_dir():
        advice = f"Make room: a first start with the default data takes about {ENOUGH_BYTES / 1e9:.0f} GB."
        return [Finding("warning", "DATA_DIR", sentence, advice)]
    return [Finding("ok", "DATA_DIR", sentence)]


def port_findings(settings: Settings) -> list[Finding]:
    where = f"{settings.host}:{settings.port}"
    try:
        require_free(settings.host, settings.port)
        return [Finding("ok", "port", f"{where} is free.")]
    except StartupError as error:
        said = _who_serves(settings)
        if said is None:
            return [Finding("problem", "port", str(error), "Choose another HOST or PORT, or stop what has it.")]
    if said:
        sentence = f"{where} is served by a premise server that is not ready: {said}"
        return [Finding("warning", "port", sentence, "Wait while it starts; if that does not end, read its log.")]
    return [Finding("ok", "port", f"{where} is served by a premise server that is ready.")]


def _who_serves(settings: Settings) -> str | None:
    """Why the premise server on that port is not ready, empty if it is; None if another program has the port."""
    try:
        with ask(f"{base_url(settings.host, settings.port)}/health/ready", 3) as answer:
            return "" if json.load(answer)["status"] == "ready" else None
    except urllib.error.HTTPError as error:
        try:
            return " ".join(json.load(error)["reasons"])
        except (ValueError, KeyError, TypeError):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _pinned() -> dict[str, str]:
    """constraints.txt, where the program runs from a checkout."""
    path = Path(__file__).parents[2] / "constraints.txt"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {name.lower(): number for name, number in re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE)}
