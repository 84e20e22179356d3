"""Commands in the documentation are run, or where they need Docker or a cluster, checked against the files they name.

Every line of a block marked `sh` is one command. What a test may not do for real is in `CHECKED`, by its first words;
all else is run by a shell with `$URL`, `$API_KEY` and `$CACHE_REDIS_URL` set for a system that serves the demo.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from shared.commands.redis_server import find_redis_server
from tests.support.compose import compose, services, valid
from tests.support.dockerfile import values
from tests.support.manifests import base
from tests.support.monitoring import families, rules
from tests.support.repository import ROOT
from tests.support.servers import Stack

ELSEWHERE = {"cache.md"}
"""Its blocks are whole scripts, run by test_cache_recipes.py."""
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    tested = [path for path in DOCUMENTS if path.name not in ELSEWHERE]
    return [line for path in tested for block in blocks(path, "sh") for line in block.splitlines()]


def parser(*flags: str, options: tuple[str, ...] = ()) -> argparse.ArgumentParser:
    """For one subcommand; an option it does not know, or that lacks its value, is an error."""
    made = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    for flag in flags:
        made.add_argument(flag, action="store_true")
    for option in options:
        made.add_argument(option, action="append", default=[])
    made.add_argument("words", nargs="*")
    return made


SUBCOMMANDS = {
    "up": parser("-d", "--build", "--no-deps", options=("--scale",)),
    "logs": parser("-f", "--no-log-prefix", options=("--since",)),
    "exec": parser(),
    "cp": parser(),
    "ps": parser(),
}


def check_docker_compose(words: list[str]) -> None:
    start = next(index for index, word in enumerate(words) if word in SUBCOMMANDS)
    front = parser(options=("-f", "--profile")).parse_args(words[2:start])
    assert all((ROOT / name).is_file() for name in front.f)
    assert set(front.profile) <= {profile for service in services().values() for profile in service.get("profiles", [])}
    subcommand, rest = words[start], words[start + 1 :]
    if subcommand == "exec":
        assert rest[0] in services()
        return
    given = SUBCOMMANDS[subcommand].parse_args(rest)
    if subcommand == "cp":
        assert given.words[0].partition(":")[0] in services()
        return
    scaled = [option.partition("=")[0] for option in getattr(given, "scale", [])]
    assert {*given.words, *scaled} <= set(services())


def check_docker_build(words: list[str]) -> None:
    given = parser(options=("-f", "-t", "--build-arg")).parse_args(words[2:])
    assert given.words == ["."]
    (dockerfile,) = given.f
    arguments = {value.partition("=")[0] for value in values(Path(dockerfile).parent.name, "ARG")}
    assert {argument.partition("=")[0] for argument in given.build_arg} <= arguments


def check_kubectl_apply(words: list[str]) -> None:
    (folder,) = parser(options=("-k",)).parse_args(words[2:]).k
    assert (ROOT / folder / "kustomization.yaml").is_file()


def check_kubectl_create_secret(words: list[str]) -> None:
    """Made for real, though not sent, where there is kubectl."""
    assert words[3] == "generic"
    if shutil.which("kubectl"):
        made = subprocess.run([*words, "--dry-run=client", "-o", "yaml"], capture_output=True, text=True, timeout=30)
        assert made.returncode == 0, made.stderr
        example = yaml.safe_load((ROOT / "deploy/kubernetes/secret.example.yaml").read_text(encoding="utf-8"))
        secret = yaml.safe_load(made.stdout)
        assert secret["metadata"]["name"] == example["metadata"]["name"]
        assert set(secret["data"]) == set(example["stringData"])


def check_kubectl_rollout(words: list[str]) -> None:
    assert words[2] == "restart"
    kind, _, name = words[3].partition("/")
    assert (kind, name) in {(one["kind"].lower(), one["metadata"]["name"]) for one in base()}


CHECKED: dict[str, Callable[[list[str]], None]] = {
    "docker compose": check_docker_compose,
    "docker build": check_docker_build,
    "kubectl apply": check_kubectl_apply,
    "kubectl create secret": check_kubectl_create_secret,
    "kubectl rollout": check_kubectl_rollout,
}


def checker(command: str) -> Callable[[list[str]], None] | None:
    return next((check for start, check in CHECKED.items() if command.startswith(f"{start} ")), None)


@pytest.mark.parametrize("command", [command for command in commands() if checker(command)])
def test_a_command_that_cannot_run_here_names_what_exists(command: str) -> None:
    check = checker(command)
    assert check is not None
    check(shlex.split(command))


@pytest.mark.parametrize(
    "command",
    [
        "docker compose up --sclae worker=4",
        "docker compose up --scale workers=4",
        "docker compose -f docker-compose.gpus.yaml up",
        "docker compose --profile metrics up",
        "docker compose logs redis",
        "docker build -f api/Dockerfile --build-arg TORCH_INDEX=x .",
        "kubectl apply -k deploy/kubernetes/amd",
        "kubectl rollout restart deployment/workers",
    ],
)
def test_a_command_with_a_slip_is_found(command: str) -> None:
    check = checker(command)
    assert check is not None
    with pytest.raises((AssertionError, argparse.ArgumentError, SystemExit)):
        check(shlex.split(command))


@pytest.mark.parametrize("command", [command for command in commands() if not checker(command)])
def test_a_command_runs(command: str, served: Stack, tmp_path: Path) -> None:
    redis_programs = find_redis_server().parent
    env = {
        **served.env,
        "PATH": f"{Path(sys.executable).parent}:{redis_programs}:{os.environ['PATH']}",
        "URL": served.base_url,
        "API_KEY": "",
        "CACHE_REDIS_URL": served.cache.url,
        "no_proxy": "127.0.0.1",
    }
    ended = subprocess.run(["sh", "-c", command], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    assert '"detail"' not in ended.stdout


@pytest.mark.parametrize("block", [block for path in DOCUMENTS for block in blocks(path, "yaml")])
def test_an_overlay_in_the_text_is_a_compose_file(block: str, tmp_path: Path) -> None:
    overlay: dict[str, Any] = yaml.safe_load(block)
    assert valid(overlay, tmp_path)
    assert set(overlay["services"]) & set(compose()["services"])


def table(name: str) -> list[str]:
    """What stands in backquotes in the first column of the table between two marks of that name in operate.md."""
    text = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    (rows,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    return re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)


def test_every_metric_is_explained(client: httpx.Client) -> None:
    ours = [family for family in families(client.get("/metrics").text) if family.name.startswith("premise_")]
    assert sorted(table("metrics")) == sorted(
        f"{family.name}_total" if family.type == "counter" else family.name for family in ours
    )


def test_every_alert_has_something_to_do() -> None:
    assert table("alerts") == [rule["alert"] for rule in rules()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\(((?!http)[^)#]+)", path.read_text(encoding="utf-8"))
    assert all((path.parent / target).exists() for target in targets)


def test_the_readme_leads_to_every_document() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"(docs/{path.name})" in readme for path in DOCUMENTS[1:])


def test_the_architecture_page_names_files_that_exist_and_every_folder_of_code() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    files = {*re.findall(r"\]\(\.\./([^)#]+)\)", page), *re.findall(r"`([\w/]+\.(?:py|lua))`", page)}
    missing = [f for f in files if not (ROOT / f).exists() and not list((ROOT / "shared/redis/lua").glob(f))]
    assert not missing, f"docs/architecture.md names {', '.join(sorted(missing))}"
    code = {
        path.parent.relative_to(ROOT) for room in ("api", "worker", "shared") for path in (ROOT / room).rglob("*.py")
    }
    unnamed = sorted(str(folder) for folder in code if f"`{folder}/`" not in page)
    assert not unnamed, f"docs/architecture.md does not name {', '.join(unnamed)}"
