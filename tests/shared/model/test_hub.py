"""Model and data from a hub: found, pinned to a commit, kept, and one sentence when they cannot be had.

The hub is a server on loopback; huggingface_hub reads HF_ENDPOINT once, so whatever uses it runs as a process.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import httpx
import pytest
from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

from shared.commands.demo_run import demo_environment
from shared.model.files import files_of
from shared.model.hub_progress import LoggedDownload
from tests.support.archives import demo_files, pack
from tests.support.hub_server import Hub, Repository, hub_server
from tests.support.models import write_json
from tests.support.roles import api_process, refusal, worker_process
from tests.support.servers import RedisServer, redis_server

MODEL, DATA = "lab/small-model", "lab/lean-premises"
BRANCH = "v1.0"
DEMO_MODEL = Path(demo_environment()["MODEL_ID"])
SOME_MODULES = ("Init.Data.Bool", "Init.Data.Nat.Basic")
EMBEDDINGS = f"embeddings/small-model-{BRANCH}.npy"
WEIGHTS = "model.safetensors"


def model_files() -> dict[str, Path]:
    return {str(path.relative_to(DEMO_MODEL)): path for path in DEMO_MODEL.rglob("*") if path.is_file()}


def env_of_hub(hub: Hub, data_dir: Path, **settings: str) -> dict[str, str]:
    """The environment of a process that uses this hub and no other."""
    return {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(data_dir / "home"),
        "NO_PROXY": "127.0.0.1,localhost",
        "MODEL_ID": MODEL,
        "MODEL_NAME": "",
        "MODEL_REVISION": BRANCH,
        "DATA_REPO": DATA,
        "DATA_REVISION": BRANCH,
        "DATA_DIR": str(data_dir),
        "DTYPE": "float32",
        "TORCH_THREADS": "1",
        **settings,
    }


def printed(program: str, env: dict[str, str], directory: Path) -> str:
    """What a few lines of Python print that have the settings at hand."""
    return subprocess.run(
        [sys.executable, "-c", f"from shared.settings import load_settings\nsettings = load_settings()\n{program}"],
        env=env,
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


OPEN_MODEL = """
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
print(open_model(ModelSpec.of(settings), settings.data_dir, weights={weights}).revision)
"""
FIND_EMBEDDINGS = """
from api.corpus.repository import DataRepository, DataSpec
from shared.model.spec import ModelSpec
print(DataRepository(DataSpec.of(settings), settings.data_dir).embeddings(ModelSpec.of(settings)))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("archive") / "premises.tar.gz", demo_files(SOME_MODULES))


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def hub(archive: Path) -> Iterator[Hub]:
    """A hub that has both repositories."""
    with hub_server(hub_with(archive)) as running:
        yield running


def hub_with(archive: Path) -> Hub:
    model, data = Repository(), Repository()
    model.commit(BRANCH, model_files())
    data.commit(BRANCH, {"premises.tar.gz": archive})
    return Hub(models={MODEL: model}, datasets={DATA: data})


# The whole system, from the hub and then without it.


@dataclass
class Downloaded:
    """What a run over the hub left behind."""

    hub: Hub
    directory: Path
    answer: list[dict[str, object]]
    version: dict[str, str]
    cache_keys: set[str]

    @property
    def commit(self) -> str:
        return self.hub.models[MODEL].branches[BRANCH]

    def files_of(self, role: str) -> set[str]:
        return {path.name for path in (self.directory / role / "hub").rglob("*") if path.is_file()}


def ask(base_url: str) -> list[dict[str, object]]:
    answer = httpx.post(f"{base_url}/retrieve", json={"state": "a b : Nat\n⊢ a + b = b + a", "k": 5}, timeout=60)
    hits: list[dict[str, object]] = answer.raise_for_status().json()
    return hits


@contextmanager
def system(hub: Hub, redis: RedisServer, directory: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """API and worker, each with a data directory of its own: base URL and environment of the API."""
    log = directory / "processes.log"
    envs = {
        role: env_of_hub(hub, directory / role, REDIS_URL=redis.url, HF_HUB_USER_AGENT_ORIGIN=role)
        for role in ("api", "worker")
    }
    with worker_process(envs["worker"], log), api_process(envs["api"], log) as (_, base_url):
        yield base_url, envs["api"]


@pytest.fixture(scope="module")
def downloaded(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Downloaded]:
    """The system ran over the hub once; now the hub is gone."""
    directory = tmp_path_factory.mktemp("system")
    with (
        hub_server(hub_with(archive)) as hub,
        redis_server(directory) as redis,
        system(hub, redis, directory) as (base_url, _),
        redis.client() as client,
    ):
        answer = ask(base_url)
        version = httpx.get(f"{base_url}/version").json()
        keys = {key.decode() for key in client.scan_iter("emb:*")}
    yield Downloaded(hub, directory, answer, version, keys)


def test_the_system_answers_with_model_and_data_of_the_hub(downloaded: Downloaded) -> None:
    assert "Nat.add_comm" in [hit["name"] for hit in downloaded.answer]


def test_the_api_downloads_no_weights(downloaded: Downloaded) -> None:
    asked_for_weights = {asked.origin for asked in downloaded.hub.asked if asked.path.endswith(WEIGHTS)}
    assert asked_for_weights == {"worker"}
    assert WEIGHTS in downloaded.files_of("worker")
    assert WEIGHTS not in downloaded.files_of("api")
    assert "premises.tar.gz" not in downloaded.files_of("worker")


def test_only_what_is_used_is_downloaded(downloaded: Downloaded) -> None:
    unused = {"README.md", "data_config.json", ".gitattributes"}
    assert unused <= set(model_files())
    assert unused.isdisjoint(downloaded.files_of("worker"))


def test_the_commit_of_the_branch_is_in_every_cache_key(downloaded: Downloaded) -> None:
    fingerprint = f"small-model@{downloaded.commit[:12]}:float32"
    assert downloaded.version["model"] == fingerprint
    assert {key.rpartition(":")[0] for key in downloaded.cache_keys} == {f"emb:{fingerprint}"}


def test_a_later_start_needs_no_hub(downloaded: Downloaded, tmp_path: Path) -> None:
    with redis_server(tmp_path) as redis, system(downloaded.hub, redis, downloaded.directory) as (base_url, env):
        assert ask(base_url) == downloaded.answer
        log = downloaded.directory / "processes.log"
        with api_process(env | {"HF_HUB_OFFLINE": "1"}, log) as (_, offline_url):
            assert ask(offline_url) == downloaded.answer


def test_a_worker_finds_its_model_with_hf_hub_offline(downloaded: Downloaded, tmp_path: Path) -> None:
    env = env_of_hub(downloaded.hub, downloaded.directory / "worker", HF_HUB_OFFLINE="1")
    assert printed(OPEN_MODEL.format(weights=True), env, tmp_path) == downloaded.commit[:12]


def test_the_directory_of_an_api_lacks_what_a_worker_needs(downloaded: Downloaded, tmp_path: Path) -> None:
    env = env_of_hub(downloaded.hub, downloaded.directory / "api", HF_HUB_OFFLINE="1")
    said = sentence(OPEN_MODEL.format(weights=True), env, tmp_path)
    assert "is not on this machine and the hub cannot be reached" in said


# Revisions and files.


def test_a_branch_that_moves_is_followed_and_a_commit_stays(hub: Hub, tmp_path: Path) -> None:
    def revision(model_revision: str) -> str:
        env = env_of_hub(hub, tmp_path / "data", MODEL_REVISION=model_revision)
        return printed(OPEN_MODEL.format(weights=False), env, tmp_path)

    old = hub.models[MODEL].branches[BRANCH]
    assert revision(BRANCH) == old[:12]
    new = hub.models[MODEL].commit(BRANCH, model_files())
    assert revision(BRANCH) == new[:12]
    assert revision(old) == old[:12]


def test_embeddings_of_the_dataset_are_found_by_model_name_and_revision(
    hub: Hub, archive: Path, tmp_path: Path
) -> None:
    rows, others = tmp_path / "rows.npy", tmp_path / "others.npy"
    rows.write_bytes(b"rows")
    others.write_bytes(b"others")
    other_names = ("embeddings/small-model-v2.0.npy", f"embeddings/lab/small-model-{BRANCH}.npy", "embeddings/x.npy")
    env = env_of_hub(hub, tmp_path / "data")

    hub.datasets[DATA].commit(BRANCH, {"premises.tar.gz": archive} | dict.fromkeys(other_names, others))
    assert printed(FIND_EMBEDDINGS, env, tmp_path) == "None"
    assert printed(FIND_EMBEDDINGS, env | {"HF_HUB_OFFLINE": "1"}, tmp_path) == "None"

    hub.datasets[DATA].commit(BRANCH, {"premises.tar.gz": archive, EMBEDDINGS: rows})
    found = Path(printed(FIND_EMBEDDINGS, env, tmp_path))
    assert found.read_bytes() == b"rows"
    assert found.is_relative_to(tmp_path / "data")
    assert printed(FIND_EMBEDDINGS, env | {"HF_HUB_OFFLINE": "1"}, tmp_path) == str(found)


LIST_FILES = """
from pathlib import Path
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
path = open_model(ModelSpec.of(settings), settings.data_dir, weights={weights}).path
print(*sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()), sep="\\n")
"""


@pytest.mark.parametrize("weights", [False, True])
def test_every_file_that_counts_for_a_digest_is_downloaded_and_no_other(
    hub: Hub, tmp_path: Path, weights: bool
) -> None:
    """Folders that only modules.json names are found too; pickles are never fetched."""
    files = dict(model_files())
    modules = json.loads((DEMO_MODEL / "modules.json").read_text())
    modules[1]["path"] = "how to pool"
    write_json(tmp_path / "modules.json", modules)
    files["modules.json"] = tmp_path / "modules.json"
    files["how to pool/config.json"] = files.pop("1_Pooling/config.json")
    write_json(tmp_path / "empty.json", {})
    added = {
        "sentence_roberta_config.json",
        "added_tokens.json",
        "sentencepiece.bpe.model",
        "spiece.model",
        "merges.txt",
    }
    unused = {"pytorch_model.bin", "0_Transformer/pytorch_model.bin", "rust_model.ot", "onnx/model.onnx"}
    unused |= {"onnx/config.json", "training_args.bin", "model.py"}
    files |= dict.fromkeys(added | unused, tmp_path / "empty.json")
    hub.models[MODEL].commit(BRANCH, files)
    listed = printed(LIST_FILES.format(weights=weights), env_of_hub(hub, tmp_path / "data"), tmp_path).splitlines()
    assert added < set(listed)
    assert "how to pool/config.json" in listed
    assert (WEIGHTS in listed) == weights
    assert not unused & set(listed)
    assert not [asked for asked in hub.asked if any(asked.path.endswith(name) for name in unused)]
    counted = set(files_of_directory(files, weights))
    assert set(listed) == counted


def files_of_directory(files: dict[str, Path], weights: bool) -> list[str]:
    """What the digest of a local directory of these files covers, without weights if none were asked for."""
    with TemporaryDirectory() as folder:
        for name in files:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).touch()
        counted = files_of(Path(folder), ["", "how to pool", "2_Normalize"])
        names = [str(path.relative_to(folder)) for path in counted]
    return [name for name in names if weights or not name.endswith(".safetensors")]


# What cannot be had.

NEEDS_MODEL = OPEN_MODEL.format(weights=False)
NEEDS_DATA = """
from api.corpus.repository import DataRepository, DataSpec
DataRepository(DataSpec.of(settings), settings.data_dir).archive()
"""


def sentence(program: str, env: dict[str, str], directory: Path) -> str:
    """The one sentence with which a program is refused."""
    lines = "\n    ".join(program.splitlines())
    caught = (
        f"from shared.errors import StartupError\ntry:\n    {lines}\nexcept StartupError as error:\n    print(error)"
    )
    said = printed(caught, env, directory)
    assert said.endswith(".")
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("program", "settings", "says"),
    [
        (NEEDS_MODEL, {"MODEL_ID": "lab/unknown"}, "lab/unknown is neither a directory nor a repository"),
        (NEEDS_MODEL, {"MODEL_ID": "a/b/c"}, "a/b/c is neither a directory nor a valid hub repository name"),
        (NEEDS_MODEL, {"MODEL_REVISION": "v9"}, f"{MODEL} has no revision 'v9'"),
        (NEEDS_DATA, {"DATA_REPO": "lab/unknown"}, "lab/unknown is neither a directory nor a repository"),
        (NEEDS_DATA, {"DATA_REVISION": "v9"}, f"{DATA} has no revision 'v9'"),
        (NEEDS_DATA, {"DATA_REVISION": "empty"}, f"DATA_REPO {DATA} at empty has no premises.tar.gz"),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(
    hub: Hub, tmp_path: Path, program: str, settings: dict[str, str], says: str
) -> None:
    hub.datasets[DATA].commit("empty", {})
    assert sentence(program, env_of_hub(hub, tmp_path / "data", **settings), tmp_path).startswith(says)


@pytest.mark.parametrize("program", [NEEDS_MODEL, NEEDS_DATA], ids=["model", "data"])
def test_a_hub_that_is_away_is_one_sentence(tmp_path: Path, program: str) -> None:
    with hub_server(Hub()) as hub:
        pass
    said = sentence(program, env_of_hub(hub, tmp_path / "data"), tmp_path)
    assert "is not on this machine and the hub cannot be reached" in said


@pytest.mark.parametrize("trouble", ["cut", "busy"])
@pytest.mark.parametrize(("program", "repo"), [(NEEDS_MODEL, MODEL), (NEEDS_DATA, DATA)], ids=["model", "data"])
def test_a_hub_in_trouble_is_one_sentence(
    hub: Hub, tmp_path: Path, program: str, repo: str, trouble: Literal["cut", "busy"]
) -> None:
    hub.trouble = trouble
    assert repo in sentence(program, env_of_hub(hub, tmp_path / "data"), tmp_path)


def test_an_api_process_shows_the_sentence_and_ends(hub: Hub, redis_url: str, tmp_path: Path) -> None:
    env = env_of_hub(hub, tmp_path / "data", REDIS_URL=redis_url, DATA_REVISION="v9")
    assert refusal("api", env, tmp_path).startswith(f"{DATA} has no revision 'v9'")


def test_a_worker_process_shows_the_sentence_and_ends(redis_url: str, tmp_path: Path) -> None:
    with hub_server(Hub()) as hub:
        pass
    env = env_of_hub(hub, tmp_path / "data", REDIS_URL=redis_url)
    assert "the hub cannot be reached" in refusal("worker", env, tmp_path)


@pytest.mark.parametrize("trouble", ["cut", "busy"])
def test_a_hub_in_trouble_is_not_needed_for_what_is_there(
    downloaded: Downloaded, archive: Path, tmp_path: Path, trouble: Literal["cut", "busy"]
) -> None:
    with hub_server(hub_with(archive)) as hub:
        hub.trouble = trouble
        env = env_of_hub(hub, downloaded.directory / "api")
        assert printed(FIND_EMBEDDINGS, env, tmp_path) == "None"  # model read, data known to have no embeddings


# What a doctor may ask.

LOOK = """
import asyncio
from api.commands.doctor import data_findings
from shared.commands.doctor.model_findings import model_findings
for finding in [*model_findings(settings, weights=True), *asyncio.run(data_findings(settings))]:
    print(finding.level, finding.sentence)
"""


def test_the_doctor_tells_the_size_of_a_download_and_fetches_nothing(hub: Hub, archive: Path, tmp_path: Path) -> None:
    wanted = ("*.safetensors", "*.json", "vocab.txt", "*/config.json")
    size = sum(path.stat().st_size for path in model_files().values() if any(path.match(name) for name in wanted))
    model, data = printed(LOOK, env_of_hub(hub, tmp_path / "data"), tmp_path).splitlines()
    told = re.fullmatch(rf"warning {MODEL} at '{BRANCH}' is not in DATA_DIR yet; .* downloads (\d+) MB\.", model)
    assert told
    assert int(told[1]) == pytest.approx(size / 1e6, abs=2)
    assert data.endswith(f"downloads {archive.stat().st_size / 1e6:,.0f} MB.")
    assert not [asked for asked in hub.asked if asked.method == "GET" and "/resolve/" in asked.path]
    assert not [asked for asked in hub.asked if asked.path.startswith("/store/")]
    assert not [path for path in (tmp_path / "data" / "hub").rglob("*") if path.is_file() and "snapshots" in path.parts]


def test_the_doctor_finds_what_was_downloaded_without_the_hub(downloaded: Downloaded, tmp_path: Path) -> None:
    env = env_of_hub(downloaded.hub, downloaded.directory / "api", REDIS_URL="redis://127.0.0.1:1/0")
    model, data, *_ = printed(LOOK, env, tmp_path).splitlines()
    assert model.startswith(f"problem Not in DATA_DIR yet, and not to be had: {MODEL} at '{BRANCH}'")  # no weights
    assert data.startswith("ok ")
    assert " premises is built in " in data


def test_a_download_that_nobody_watches_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Often(LoggedDownload):
        every_s = 0

    enable_progress_bars()  # transformers switches them off for the whole process when it loads a model
    with caplog.at_level("INFO"), Often(total=40_000_000, unit="B") as download, Often(total=3, unit="it") as files:
        download.update(10_000_000)
        files.update(1)
    assert caplog.messages == ["downloaded 10 of 40 MB"]
    with caplog.at_level("INFO"), disable_progress_bars(), Often(total=40_000_000, unit="B") as download:
        download.update(10_000_000)
    assert len(caplog.messages) == 1
