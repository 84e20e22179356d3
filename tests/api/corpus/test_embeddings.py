"""Embeddings of the corpus: stored ones are checked, wrong ones are never served, missing ones are computed once."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from filelock import FileLock
from sentence_transformers import SentenceTransformer

from api.corpus.embeddings import SAMPLED_ROWS, WINDOW, compute, computed_path, stored_embeddings
from api.corpus.reader import ReadCorpus, read_corpus
from api.embedding.bulk import BulkEmbedder
from shared.commands.demo_run import demo_environment
from shared.errors import StartupError
from shared.model.directory import ModelDirectory
from shared.model.text import text_digest
from shared.redis import keys as redis_keys
from shared.vectors import Vectors
from tests.support.archives import data_files, declaration, demo_files, pack
from tests.support.queue_system import DIMENSION, TTL_S, Work, embedder, vector_of, worker
from tests.support.roles import api_process, refusal, worker_process
from tests.support.servers import RedisServer, redis_server, role_env, wait_for

THREE = read_corpus(data_files({"A": [declaration(name) for name in "abc"]}))
UNIT_ROWS = np.eye(3, 4, dtype=np.float32)


def sentence_for(path: Path) -> str:
    with pytest.raises(StartupError) as raised:
        stored_embeddings(path, THREE, 4)
    sentence = str(raised.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_stored_rows_come_back_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model-main.npy"
    np.save(path, UNIT_ROWS)
    np.testing.assert_array_equal(stored_embeddings(path, THREE, 4), UNIT_ROWS)


def changed(row: int, value: float) -> Vectors:
    rows = UNIT_ROWS.copy()
    rows[row, 0] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (UNIT_ROWS[:2], "shape (2, 4)"),
        (np.eye(4, dtype=np.float32), "shape (4, 4)"),
        (np.eye(3, 5, dtype=np.float32), "shape (3, 5)"),
        (UNIT_ROWS.ravel(), "shape (12,)"),
        (UNIT_ROWS.astype(np.float64), "float64"),
        (UNIT_ROWS.astype(np.float16), "float16"),
        (UNIT_ROWS.astype(">f4"), ">f4"),
        (changed(1, 1), "row 1 has norm 1.41421,"),
        (changed(0, 0), "row 0 has norm 0,"),
        (changed(2, np.nan), "row 2 has norm nan,"),
        (changed(2, np.inf), "row 2 has norm inf,"),
    ],
    ids=["few", "many", "dimension", "flat", "double", "half", "big-endian", "long", "zero", "nan", "infinite"],
)
def test_rows_that_do_not_fit_corpus_and_model_are_refused(tmp_path: Path, rows: Vectors, says: str) -> None:
    path = tmp_path / "model-main.npy"
    np.save(path, rows)
    assert says in sentence_for(path)


@pytest.mark.parametrize("kept", [0, 7, 100, 128, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "model-main.npy"
    np.save(path, UNIT_ROWS)
    path.write_bytes(path.read_bytes()[:kept])
    assert "not a readable .npy file" in sentence_for(path)


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_not_unpickled(tmp_path: Path) -> None:
    path, touched = tmp_path / "model-main.npy", tmp_path / "touched"
    np.save(path, np.array([Touch(touched)] * 3, dtype=object), allow_pickle=True)
    assert "not a readable .npy file" in sentence_for(path)
    assert not touched.exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model-main.npy"
    assert "No such file" in sentence_for(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "not a readable .npy file" in sentence_for(path)
    with path.open("wb") as file:
        np.savez(file, rows=UNIT_ROWS)
    assert "not a readable .npy file" in sentence_for(path)


def test_how_far_computing_is_gets_told(redis_instance: RedisServer, tmp_path: Path) -> None:
    names = [f"n{i}" for i in range(WINDOW + 10)]
    corpus = read_corpus(data_files({"A": [declaration(name) for name in names]}))
    told: list[str] = []

    async def computed() -> None:
        async with embedder(redis_instance.url) as own, worker(redis_instance.url, Work()):
            bulk = BulkEmbedder(own, TTL_S)
            told.extend([how_far async for how_far in compute(tmp_path / "rows.npy", corpus, bulk, DIMENSION)])

    asyncio.run(computed())
    assert len(told) == 2
    assert told[0].startswith("1,024 of 1,034 (99 %), ")
    assert told[1].startswith("1,034 of 1,034 (100 %), ")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy")[-1], vector_of(corpus.texts[-1]))


# The rest runs against the system: one worker, and an API process for each test.

MODEL_REVISION = "r1"
MODULES = ("Init.Data.Bool", "Init.Data.Nat.Basic", "Init.Data.Nat.Lemmas")
"""The part of the demo corpus that is served here."""


@dataclass
class Backstage:
    """What API processes need: Redis and a worker."""

    directory: Path
    cache: RedisServer
    env: dict[str, str]

    @property
    def log(self) -> Path:
        return self.directory / "processes.log"

    def env_over(self, data_repo: Path, data_dir: Path) -> dict[str, str]:
        return {**self.env, "DATA_REPO": str(data_repo), "DATA_DIR": str(data_dir)}

    def empty_cache(self) -> None:
        with self.cache.client() as client:
            client.flushall()

    def texts_embedded(self) -> int:
        """Since the cache was emptied."""
        with self.cache.client() as client:
            return sum(1 for _ in client.scan_iter("emb:*"))


@pytest.fixture(scope="module")
def running_backstage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backstage]:
    directory = tmp_path_factory.mktemp("backstage")
    with redis_server(directory) as queue, redis_server(directory, cache=True) as cache:
        env = role_env(
            directory, REDIS_URL=queue.url, CACHE_REDIS_URL=cache.url, MODEL_REVISION=MODEL_REVISION, TORCH_THREADS="1"
        )
        stage = Backstage(directory, cache, env)
        with worker_process(env, stage.log):
            yield stage


@pytest.fixture
def backstage(running_backstage: Backstage) -> Backstage:
    """With an empty cache."""
    running_backstage.empty_cache()
    return running_backstage


@pytest.fixture(scope="module")
def corpus() -> ReadCorpus:
    return read_corpus(demo_files(MODULES))


@pytest.fixture(scope="module")
def oracle(corpus: ReadCorpus) -> Vectors:
    """The rows as sentence-transformers makes them."""
    model = SentenceTransformer(demo_environment()["MODEL_ID"], device="cpu")
    rows: Vectors = model.encode(corpus.texts, normalize_embeddings=True, show_progress_bar=False)
    return rows


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data repository without embeddings."""
    pack(tmp_path / "repository" / "premises.tar.gz", demo_files(MODULES))
    return tmp_path / "repository"


@pytest.fixture
def stored(repository: Path, oracle: Vectors) -> Path:
    """The right embeddings, where the data repository ships them."""
    path = repository / "embeddings" / f"all-MiniLM-L6-v2-{MODEL_REVISION}.npy"
    path.parent.mkdir()
    np.save(path, oracle)
    return path


def best(base_url: str) -> list[str]:
    answer = httpx.post(f"{base_url}/retrieve", json={"state": "a b : Nat\n⊢ a + b = b + a", "k": 5}, timeout=60)
    return [hit["name"] for hit in answer.raise_for_status().json()]


@pytest.mark.usefixtures("stored")
def test_right_rows_are_served_and_only_a_sample_is_embedded_again(
    backstage: Backstage, repository: Path, tmp_path: Path
) -> None:
    with api_process(backstage.env_over(repository, tmp_path / "data"), backstage.log) as (_, base_url):
        assert backstage.texts_embedded() == 0  # the proof's texts are embedded anew, and not kept
        version = httpx.get(f"{base_url}/version").json()["provenance"]
        assert (version["embeddings"], version["rows_verified"]) == ("stored", SAMPLED_ROWS)
        assert version["least_cosine"] >= 0.99999
        assert "Nat.add_comm" in best(base_url)
    assert not (tmp_path / "data" / "embeddings").exists()


def test_rows_shifted_by_one_are_never_served(
    backstage: Backstage, repository: Path, stored: Path, tmp_path: Path
) -> None:
    np.save(stored, np.roll(np.load(stored), 1, axis=0))
    sentence = refusal("api", backstage.env_over(repository, tmp_path / "data"), tmp_path)
    assert str(stored) in sentence
    assert "does not match" in sentence


def test_wrong_rows_are_refused_although_the_cache_has_the_same_wrong_vectors(
    backstage: Backstage, repository: Path, stored: Path, tmp_path: Path, corpus: ReadCorpus, model: ModelDirectory
) -> None:
    wrong = np.roll(np.load(stored), 1, axis=0)
    np.save(stored, wrong)
    with backstage.cache.client() as client:
        for text, row in zip(corpus.texts, wrong, strict=True):
            key = redis_keys.embedding(model.fingerprint("float32"), text_digest(text))
            client.set(key, row.astype("<f4").tobytes(), ex=600)
    sentence = refusal("api", backstage.env_over(repository, tmp_path / "data"), tmp_path)
    assert "does not match" in sentence


def test_missing_rows_are_computed_once_and_match_sentence_transformers(
    backstage: Backstage, repository: Path, tmp_path: Path, corpus: ReadCorpus, oracle: Vectors
) -> None:
    env = backstage.env_over(repository, tmp_path / "data")
    with api_process(env, backstage.log) as (_, base_url):
        assert backstage.texts_embedded() == len(set(corpus.texts))
        assert "Nat.add_comm" in best(base_url)
    (saved,) = (tmp_path / "data" / "embeddings").rglob("*.npy")
    assert np.einsum("ij,ij->i", np.load(saved), oracle).min() >= 0.99999

    backstage.empty_cache()
    written = saved.stat()
    with api_process(env, backstage.log):
        assert backstage.texts_embedded() == 0
    assert (saved.stat().st_mtime_ns, saved.stat().st_ino) == (written.st_mtime_ns, written.st_ino)


def test_a_process_that_waits_for_another_ones_rows_stops_when_told(
    backstage: Backstage, repository: Path, tmp_path: Path, corpus: ReadCorpus, model: ModelDirectory
) -> None:
    rows = computed_path(corpus, model, tmp_path / "data")
    rows.parent.mkdir(parents=True)
    env = backstage.env_over(repository, tmp_path / "data")
    with FileLock(f"{rows}.lock"), api_process(env, backstage.log, ready=False) as (process, base_url):
        wait_for(lambda: "embedding the premises" in readiness(base_url), "the wait for the rows")
        process.terminate()
        assert process.wait(30) == 0
    assert backstage.texts_embedded() == 0


def test_rows_that_cannot_be_saved_are_one_sentence(backstage: Backstage, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = refusal("api", backstage.env_over(repository, tmp_path / "file" / "data"), tmp_path)
    assert "DATA_DIR" in sentence


def readiness(base_url: str) -> str:
    try:
        return httpx.get(f"{base_url}/health/ready").text
    except httpx.TransportError:
        return ""
