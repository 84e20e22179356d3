"""A data repository and a model directory of any size, with a worker that knows their vectors.

Benchmarks of retrieval leave out the cost of the model: a text's vector is a pure function of the text, so stored rows
and what the worker embeds agree, and the server's own verification passes. A vector is one of a few embeddings of
real text (`BASES`, the demo corpus through the real small model) plus noise drawn from the text's digest: real
embeddings cluster, purely random ones do not, and searches behave differently on them.
"""

import asyncio
import io
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import uvloop
from safetensors.numpy import save_file

from api.corpus.archive import read_archive
from api.corpus.reader import read_corpus
from shared.commands.demo_run import demo_environment
from shared.commands.redis_server import free_port
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
from shared.redis.client import connect
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.job import Job
from shared.redis.keys import LANES
from shared.redis.reply import Reply
from shared.settings import Settings, load_settings
from shared.vectors import Vectors
from tests.support.repository import ROOT
from tests.support.servers import redis_server, running, wait_until_ready
from worker.engine.encoder import TorchEncoder
from worker.queue_worker import Abandoned, QueueWorker

DIMENSION = 768
START_S = 600
MODULES = 1_000
NOISE = 0.6
"""Length of the noise against a base of length one: cosines within a cluster are near 0.7."""


class TextVectors:
    """The vector of any text, shape [768]."""

    def __init__(self, bases: Vectors) -> None:
        self._bases = bases

    def __call__(self, text: str) -> Vectors:
        digest = sha256(text.encode()).digest()
        noise = np.random.default_rng(list(digest)).standard_normal(DIMENSION, dtype=np.float32)
        base = self._bases[int.from_bytes(digest[:4]) % len(self._bases)]
        row = base + noise * np.float32(NOISE / np.linalg.norm(noise))
        unit: Vectors = row / np.linalg.norm(row)
        return unit


def real_bases() -> Vectors:
    """Embeddings of the demo corpus, shape [n, 768]: the small model's 384 dimensions, spread by a fixed rotation."""
    settings = Settings.model_validate({name.lower(): value for name, value in demo_environment().items()})
    encoder = TorchEncoder(open_model(ModelSpec.of(settings), settings.data_dir, weights=True), settings)
    texts = read_corpus(read_archive(Path(settings.data_repo) / "premises.tar.gz")).texts
    rows = np.concatenate([encoder.embed(encoder.tokenize(texts[i : i + 32])) for i in range(0, len(texts), 32)])
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((DIMENSION, DIMENSION)))[0][:384]
    spread: Vectors = (rows @ rotation).astype(np.float32)
    return spread


def declarations(count: int, sample: Path | None) -> Iterator[tuple[str, bytes]]:
    """Module and content of `Declarations/<Module>.jsonl` until there are `count` premises.

    Real declarations come first where `sample`, a data archive, is there; made-up ones fill up the rest.
    """
    left = count
    if sample is not None:
        contents = read_archive(sample)
        for name in sorted(n for n in contents if n.startswith("Declarations/")):
            lines = contents[name].splitlines()[:left]
            left -= len(lines)
            yield name.removeprefix("Declarations/").removesuffix(".jsonl"), b"\n".join(lines)
    for module in range(MODULES):
        share = left // MODULES + (module < left % MODULES)
        rows = [
            json.dumps({
                "name": f"Synthetic.M{module}.t{i}", "kind": "theorem" if i % 4 else "def", "args": ["(n m : Nat)"],
                "type": f"n + m * {i} = m * {i} + n", "doc": None, "inModuleSystem": module % 2 == 0,
                "isExposed": i % 8 == 0,
            }).encode()
            for i in range(share)
        ]  # fmt: skip
        yield f"Synthetic.M{module}", b"\n".join(rows)


def write_data(directory: Path, count: int, vectors: TextVectors, settings: Settings, sample: Path | None) -> int:
    """Write a data repository with about `count` premises; how many passed the filter."""
    directory.mkdir(parents=True)
    contents = {f"Declarations/{module}.jsonl": lines for module, lines in declarations(count, sample)}
    modules = sorted(name.removeprefix("Declarations/").removesuffix(".jsonl") for name in contents)
    contents["Modules.jsonl"] = "\n".join(json.dumps({"name": module}) for module in modules).encode()
    contents["HammerBlacklist.jsonl"] = b'{"hammerBlacklist": []}'
    contents["revision"] = b"synthetic"
    with tarfile.open(directory / "premises.tar.gz", "w:gz", compresslevel=1) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    texts = read_corpus(contents).texts
    (directory / "embeddings").mkdir()
    path = directory / "embeddings" / f"{settings.model_name}-{settings.model_revision}.npy"
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (len(texts), DIMENSION))
    for i, text in enumerate(texts):
        rows[i] = vectors(text)
    rows.flush()
    return len(texts)


def write_model(directory: Path) -> None:
    """A 768-wide model's directory, complete as far as the API looks. Nothing loads the one tensor of its weights."""
    directory.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    config = {
        "model_type": "bert",
        "hidden_size": DIMENSION,
        "max_position_embeddings": 512,
        "vocab_size": len(vocabulary),
    }
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    save_file({"unused": np.zeros(1, np.float32)}, directory / "model.safetensors")


@dataclass(frozen=True)
class SyntheticSystem:
    """Two Redis servers and the worker, running; API processes are the benchmark's to start."""

    directory: Path
    vectors: TextVectors
    premises: int
    env: dict[str, str]
    log: Path

    @contextmanager
    def api(self) -> Iterator[tuple[str, int]]:
        """Base URL and process id of one more API process, ready."""
        port = free_port()
        with running([sys.executable, "-P", "-m", "api"], {**self.env, "PORT": str(port)}, self.log) as process:
            wait_until_ready(f"http://127.0.0.1:{port}", process, self.log, START_S)
            yield f"http://127.0.0.1:{port}", process.pid


@contextmanager
def synthetic_system(count: int, sample: Path | None = None) -> Iterator[SyntheticSystem]:
    """Data of about `count` premises and everything but the API, in a folder that goes with the block."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        bases = real_bases()
        np.save(directory / "bases.npy", bases)
        vectors = TextVectors(bases)
        settings = Settings.model_validate({"model_name": "synthetic"})
        premises = write_data(directory / "data", count, vectors, settings, sample)
        write_model(directory / "model")
        log = directory / "log"
        with redis_server(directory) as queue, redis_server(directory, cache=True) as cache:
            env = {
                **os.environ, "REDIS_URL": queue.url, "CACHE_REDIS_URL": cache.url, "HOST": "127.0.0.1",
                "DATA_REPO": str(directory / "data"), "DATA_DIR": str(directory / "var"), "LOG_LEVEL": "WARNING",
                "MODEL_ID": str(directory / "model"), "MODEL_NAME": "synthetic",
                "PYTHONPATH": str(ROOT),
            }  # fmt: skip
            worker = [sys.executable, "-m", "benchmarks.synthetic", str(directory / "bases.npy")]
            with running(worker, env, log):
                yield SyntheticSystem(directory, vectors, premises, env, log)


async def run_worker(bases: Path) -> None:
    """A worker process whose model is `TextVectors`."""
    settings = load_settings()
    vectors = TextVectors(np.load(bases))
    fingerprint = open_model(ModelSpec.of(settings), settings.data_dir, weights=False).fingerprint(settings.dtype)
    cache = EmbeddingCache(connect(settings.cache_url), fingerprint, DIMENSION)

    async def embed(job_id: str, job: Job, _abandoned: Abandoned) -> Reply:
        rows = {digest: vectors(text) for digest, text in zip(job.digests, job.texts, strict=True)}
        await cache.put(rows, job.ttl_s)
        return Reply.of(job_id, rows, {}, cached=True)

    workers = [
        QueueWorker(
            embed,
            redis=connect(settings.redis_url),
            fingerprint=fingerprint,
            lane=lane,
            worker_id="synthetic",
            slots=4,
            claim_most=4,
            completion_wait_s=1,
        )
        for lane in LANES
    ]
    await asyncio.gather(*(worker.async_run() for worker in workers))


if __name__ == "__main__":
    uvloop.run(run_worker(Path(sys.argv[1])))
