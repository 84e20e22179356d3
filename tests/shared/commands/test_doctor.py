"""`premise-server doctor`: each trouble is made, found, and told with what to do; secrets are never printed."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from api.commands.doctor import data_findings
from shared.commands.demo_run import demo_environment
from shared.commands.doctor import report
from shared.commands.doctor.examination import examine
from shared.commands.doctor.machine import disk_findings, port_findings, settings_findings, version_findings
from shared.commands.doctor.model_findings import model_findings, worker_findings
from shared.commands.doctor.parts import LIBRARY, part
from shared.commands.doctor.redis_roles import redis_findings
from shared.commands.redis_server import find_redis_server, free_port
from shared.errors import StartupError
from shared.finding import Finding, found
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
from shared.settings import Settings
from tests.support.archives import demo_files, pack
from tests.support.servers import RedisServer, Stack, role_env, running, wait_for
from worker.doctor import device_findings, weights_findings

SCRIPT = str(Path(sys.executable).with_name("premise-server"))
NOWHERE = "redis://127.0.0.1:1/0"
PASSWORD = "hunter2hunter2"


def settings_of(**values: object) -> Settings:
    demo = {name.lower(): value for name, value in demo_environment().items()}
    return Settings.model_validate({**demo, **values})


def of_stack(stack: Stack) -> Settings:
    names = {name.upper() for name in Settings.model_fields} & set(stack.env)
    return Settings.model_validate({name.lower(): stack.env[name] for name in names})


def levels(findings: list[Finding]) -> set[str]:
    return {finding.level for finding in findings}


def only(findings: list[Finding], level: str) -> Finding:
    """The one finding of that level; it is whole sentences and says what to do."""
    (finding,) = (f for f in findings if f.level == level)
    assert finding.sentence.endswith(".")
    assert finding.advice.endswith(".")
    return finding


@contextmanager
def redis_with(directory: Path, *options: str) -> Iterator[str]:
    """The URL of a redis-server with just these options."""
    port = free_port()
    command = [str(find_redis_server()), "--port", str(port), "--bind", "127.0.0.1", *options]
    with running(command, log=directory / f"redis-{port}.log"):
        wait_for(lambda: _listens(port), "redis-server")
        yield f"redis://127.0.0.1:{port}/0"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def of_redis(queue: str, cache: str) -> list[Finding]:
    """What is found, but for latency: the machine that runs the tests may be busy."""
    findings = asyncio.run(redis_findings(settings_of(redis_url=queue, cache_redis_url=cache)))
    return [finding for finding in findings if "ms to answer" not in finding.sentence]


# -- the command


def doctor(env: dict[str, str], directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        [SCRIPT, "doctor", *options], env=env, cwd=directory, capture_output=True, text=True, timeout=100
    )
    assert "Traceback" not in finished.stdout + finished.stderr
    assert finished.stderr == ""
    return finished


def test_a_system_that_runs_is_found_well(served: Stack, tmp_path: Path) -> None:
    finished = doctor(served.env, tmp_path, "--json")
    told: dict[str, Any] = json.loads(finished.stdout)
    problems = [finding for finding in told["findings"] if finding["level"] == "problem"]
    assert (finished.returncode, problems) == (0, [])
    assert told["status"] in ("ok", "warning")  # a busy disk or a short one is the machine's, not the system's
    sentences: dict[str, list[str]] = {finding["subject"]: [] for finding in told["findings"]}
    for finding in told["findings"]:
        sentences[finding["subject"]].append(finding["sentence"])
    model = of_stack(served)
    fingerprint = open_model(ModelSpec.of(model), model.data_dir, weights=False).fingerprint(model.dtype)
    assert any("is served by a premise server that is ready" in s for s in sentences["port"])
    assert any(s.startswith("A job went there and back in ") for s in sentences["queue Redis"])
    assert sentences["cache Redis"][-1] == "An embedding that was stored for a try came back."
    assert f"1 alive for {fingerprint}." in sentences["workers"]
    assert sentences["embeddings"] == ["8 sampled rows match their texts embedded again."]
    assert any("an index of " in s and " premises is built in " in s for s in sentences["data"])
    assert sentences["model"][0].startswith(f"{fingerprint}: 384 dimensions, mean pooling, 256 tokens at most")
    assert "Its weights load and embed a declaration (float32, without padding)." in sentences["model"]
    assert sentences["device"][0].startswith(f"torch {torch.__version__} on the CPU")
    with served.queue.client() as client:
        assert not [key for key in client.scan_iter("*doctor*") if b":drained:" not in key], "the probe left something"


def test_a_redis_that_is_away_is_not_blamed_on_the_data(served: Stack) -> None:
    settings = of_stack(served).model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})
    findings = asyncio.run(data_findings(settings))
    assert [finding.level for finding in findings] == ["ok", "ok"]
    assert findings[-1].sentence.endswith("takes both Redis to check.")


def test_wrong_settings_end_it_with_status_1_and_no_secret(tmp_path: Path) -> None:
    env = role_env(tmp_path, DTYPE="int8", API_KEY=PASSWORD)
    finished = doctor(env, tmp_path)
    assert finished.returncode == 1
    assert "problem  settings: Setting DTYPE: Input should be 'float32'" in finished.stdout
    assert PASSWORD not in finished.stdout


def test_an_installation_without_its_surroundings_gets_every_trouble_named_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(LIBRARY, "worker", "no_such_library")  # as in the API's image
    with socket.create_server(("127.0.0.1", 0)) as other:
        given = {"PORT": str(other.getsockname()[1]), "HOST": "127.0.0.1", "API_KEY": PASSWORD}
        redis = f"redis://:{PASSWORD}@127.0.0.1:1/0"
        for name, value in role_env(tmp_path, REDIS_URL=redis, MODEL_ID="./nonexistent", **given).items():
            monkeypatch.setenv(name, value)
        findings = list(examine(lambda _: None))
    problems = [f for f in findings if f.level == "problem"]
    assert [f.subject for f in problems] == ["port", "queue Redis", "cache Redis", "model", "workers"]
    assert all(f.advice.endswith(".") for f in problems)
    out = StringIO()
    report.show(findings, Console(file=out))
    lines = out.getvalue().splitlines()
    assert len(lines) == len(findings)
    assert "problem  model: MODEL_ID ./nonexistent is not a directory. Correct MODEL_ID or mend the directory." in lines
    assert "ok       worker: The worker part is not installed here, so the device was not looked at." in lines
    assert PASSWORD not in out.getvalue() + report.as_json(findings)


# -- Redis


def test_a_queue_that_may_evict_and_a_cache_that_may_not(tmp_path: Path) -> None:
    bounded = ("--maxmemory", "100mb", "--save", "")
    with (
        redis_with(tmp_path, *bounded, "--maxmemory-policy", "allkeys-lru") as queue,
        redis_with(tmp_path, *bounded, "--maxmemory-policy", "noeviction") as cache,
    ):
        findings = of_redis(queue, cache)
    warnings = [f for f in findings if f.level == "warning"]
    assert levels(findings) == {"ok", "warning"}
    assert [f.subject for f in warnings] == ["queue Redis", "cache Redis", "cache Redis"]
    assert "policy is allkeys-lru: once memory is short it drops waiting jobs" in warnings[0].sentence
    assert warnings[0].advice == "Set maxmemory-policy noeviction on it."
    assert "at 100 MiB it stops taking new embeddings" in warnings[1].sentence
    assert "keeps nothing on disk" in warnings[2].sentence


def test_instances_as_embedded_mode_starts_them_are_well(served: Stack) -> None:
    assert levels(of_redis(served.queue.url, served.cache.url)) == {"ok"}


def test_a_cache_without_a_limit(served: Stack, tmp_path: Path) -> None:
    with redis_with(tmp_path, "--save", "60", "1", "--dir", str(tmp_path)) as cache:
        assert "has no maxmemory" in only(of_redis(served.queue.url, cache), "warning").sentence


def test_one_redis_for_both(redis_instance: RedisServer) -> None:
    # Another name for the same machine is still the same instance.
    finding = only(of_redis(redis_instance.url, redis_instance.url.replace("127.0.0.1", "localhost")), "warning")
    assert finding.sentence.startswith("Queue and cache are the same Redis (no maxmemory)")
    assert "CACHE_REDIS_URL" in finding.advice


def test_a_full_queue_is_a_problem(served: Stack, tmp_path: Path) -> None:
    with redis_with(tmp_path, "--maxmemory", "1", "--maxmemory-policy", "noeviction", "--save", "") as queue:
        findings = of_redis(queue, served.cache.url)
    finding = only(findings, "problem")
    assert finding.sentence.startswith("A job cannot be queued: ")
    assert "used memory > 'maxmemory'" in finding.sentence
    assert finding.advice == "It is full: raise its maxmemory."


def test_passwords_and_permissions(served: Stack, tmp_path: Path) -> None:
    reader = ("--user", "reader", "on", f">{PASSWORD}", "~*", "+@read", "+@connection", "+info")
    with redis_with(tmp_path, "--requirepass", PASSWORD, *reader, "--save", "") as url:
        for user in ("", ":wrongwrong@", "nobody:wrong@"):
            finding = only(of_redis(url.replace("//", f"//{user}"), served.cache.url), "problem")
            assert "(REDIS_URL) refuses: " in finding.sentence
            assert "Put the right user and password into REDIS_URL" in finding.advice
            assert "wrong" not in finding.sentence.replace("WRONGPASS", "")
        narrow = only(of_redis(url.replace("//", f"//reader:{PASSWORD}@"), served.cache.url), "problem")
        assert narrow.sentence.startswith("A job cannot be queued: ")
        assert narrow.advice == "Allow the user of this URL every command and key."
        assert PASSWORD not in str(narrow)
        whole = of_redis(url.replace("//", f"//:{PASSWORD}@"), served.cache.url)
        assert levels(whole) == {"ok"}
        assert PASSWORD not in str(whole)


# -- model and workers


def test_workers_of_another_type_are_told(served: Stack) -> None:
    finding = only(asyncio.run(worker_findings(of_stack(served).model_copy(update={"dtype": "float16"}))), "warning")
    assert ":float16, but there are: 1 of all-MiniLM-L6-v2@" in finding.sentence
    assert "DTYPE" in finding.advice


def test_no_workers_are_told(redis_instance: RedisServer) -> None:
    finding = only(asyncio.run(worker_findings(settings_of(redis_url=redis_instance.url))), "warning")
    assert finding.sentence.startswith("None is alive for all-MiniLM-L6-v2@")


def test_a_model_that_needs_what_is_not_supported(tmp_path: Path) -> None:
    modules = [
        {"idx": i, "name": str(i), "path": kind, "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(("Transformer", "CNN"))
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    finding = only(model_findings(settings_of(model_id=str(tmp_path)), weights=True), "problem")
    assert "CNN" in finding.sentence


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    model = Path(demo_environment()["MODEL_ID"])
    for path in model.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(model)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 64)
    settings = settings_of(model_id=str(tmp_path))
    findings = [*model_findings(settings, weights=True), *found("model", lambda: weights_findings(settings))]
    assert "safetensors" in only(findings, "problem").sentence


# -- data


def test_rows_of_other_data_are_found(served: Stack, tmp_path: Path) -> None:
    """The right number of rows in another order: only embedding again shows it."""
    settings = of_stack(served)
    (index,) = (Path(settings.data_dir) / "embeddings").glob("*/*.npy")
    repository = tmp_path / "data"
    (repository / "embeddings").mkdir(parents=True)
    (repository / "premises.tar.gz").symlink_to(Path(settings.data_repo) / "premises.tar.gz")
    stored = repository / "embeddings" / f"all-MiniLM-L6-v2-{settings.model_revision}.npy"
    moved = settings.model_copy(update={"data_repo": str(repository), "data_dir": tmp_path / "own"})

    np.save(stored, np.load(index))
    right = asyncio.run(data_findings(moved))
    assert [f.level for f in right] == ["ok", "ok"]
    assert "has as many rows; the next start builds the index" in right[0].sentence
    np.save(stored, np.roll(np.load(index), 1, axis=0))
    assert "does not match" in only(asyncio.run(data_findings(moved)), "problem").sentence
    np.save(stored, np.load(index)[1:])
    assert "belongs to other data or another model" in only(asyncio.run(data_findings(moved)), "problem").sentence
    assert not (tmp_path / "own").exists(), "the doctor built something"


def test_data_without_embeddings_and_a_worker(tmp_path: Path) -> None:
    pack(tmp_path / "premises.tar.gz", demo_files(("Init.Data.Bool",)))
    settings = settings_of(data_repo=str(tmp_path), data_dir=tmp_path / "own", redis_url=NOWHERE)
    finding = only(asyncio.run(data_findings(settings)), "warning")
    assert "no embeddings for all-MiniLM-L6-v2" in finding.sentence


# -- machine


def test_misspelt_settings_are_pointed_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("REDIS_ULR=redis://queue/0\nCOMPOSE_PROJECT_NAME=x\n")
    monkeypatch.setenv("MAX_BATCH_TOKEN", "1")
    findings = settings_findings(settings_of(api_key=PASSWORD, host="0.0.0.0"))
    told = {f.sentence.split()[0]: f.advice for f in findings if f.level == "warning"}
    assert told == {"REDIS_ULR": "Write REDIS_URL.", "MAX_BATCH_TOKEN": "Write MAX_BATCH_TOKENS."}
    assert PASSWORD not in str(findings)
    assert "whoever reaches the port may ask" in str(settings_findings(settings_of(host="0.0.0.0")))


def test_versions_are_compared_with_the_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(version_findings()) == {"ok"}
    monkeypatch.setattr("shared.commands.doctor.machine._pinned", lambda: {"redis": "0.1", "torch": "2.13.0"})
    finding = only(version_findings(), "warning")
    assert "(tested with 0.1)" in finding.sentence
    assert "torch" not in finding.sentence


def test_a_data_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert (
        "cannot be written" in only(disk_findings(settings_of(data_dir=tmp_path / "file" / "data")), "problem").sentence
    )
    assert levels(disk_findings(settings_of(data_dir=tmp_path / "new" / "data"))) <= {"ok", "warning"}
    assert not (tmp_path / "new").exists()


def test_a_port_that_is_free_and_one_that_is_not() -> None:
    port = free_port()
    assert port_findings(settings_of(port=port, host="127.0.0.1"))[0].sentence == f"127.0.0.1:{port} is free."
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings_of(port=other.getsockname()[1], host="127.0.0.1")
        assert "Cannot listen on" in only(port_findings(taken), "problem").sentence


def test_more_threads_than_cores_and_a_device_that_is_not_there() -> None:
    cores = os.cpu_count() or 1
    threads = device_findings(settings_of(device="cpu", torch_threads=cores + 1))
    assert any(f"TORCH_THREADS={cores + 1} on {cores} cores" in f.sentence for f in threads if f.level == "warning")
    if not torch.cuda.is_available():
        assert "torch sees no CUDA device" in only(device_findings(settings_of(device="cuda")), "problem").sentence


# -- parts and report


def test_a_part_that_is_not_here_or_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARY, "worker", "no_such_library")
    (absent,) = part("worker", "the device was not looked at")
    assert (absent.level, absent.sentence) == (
        "ok",
        "The worker part is not installed here, so the device was not looked at.",
    )
    monkeypatch.setenv("DTYPE", "int8")  # ends the part's process before it prints anything
    broken = only(part("api", ""), "problem")
    assert broken.sentence.startswith("The api part does not run: ")


def test_a_check_that_fails_is_a_finding() -> None:
    def breaks() -> list[Finding]:
        raise RuntimeError("first line\nsecond line")

    def refuses() -> list[Finding]:
        raise StartupError("A sentence.")

    assert found("x", breaks)[0].sentence == "This could not be checked (RuntimeError: first line)."
    assert found("x", refuses) == [Finding("problem", "x", "A sentence.")]


def test_the_worst_finding_is_the_status() -> None:
    ok, warning, problem = (Finding(level, "x", "A sentence.") for level in ("ok", "warning", "problem"))
    assert report.worst([]) == report.worst([ok]) == "ok"
    assert report.worst([ok, warning, ok]) == "warning"
    assert report.worst([warning, problem, ok]) == "problem"
    assert json.loads(report.as_json([warning]))["status"] == "warning"
