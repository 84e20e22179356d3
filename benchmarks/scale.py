"""`make bench-scale`: throughput of 1, 2, 4 and 8 workers on one queue. The devices are simulated.

A worker's model sleeps a fixed time a token (`benchmarks.simulated_device`): what is measured is whether queue, batches
and cache keep several devices busy, not how fast a device is. All else is real: worker processes, Redis, the client
side of an API process. The load is that of cold requests of 2,048 new premises, four at once and one alone.
"""

import asyncio
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop
from rich.console import Console

from api.corpus.archive import read_archive
from api.corpus.reader import read_corpus
from api.embedding.embedder import Embedder
from api.embedding.queue import EmbeddingQueue, estimated_tokens
from benchmarks.simulated_device import TOKENS_PER_S
from shared.commands.demo_run import demo_environment
from shared.deadline import Deadline
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
from shared.redis.client import connect, disconnect
from shared.redis.embedding_cache import EmbeddingCache
from shared.settings import Settings
from tests.support.report import print_machine, table
from tests.support.repository import ROOT
from tests.support.servers import redis_server, running

WORKERS = (1, 2, 4, 8)
PREMISES = 2_048
AT_ONCE = 4
TTL_S = 600.0


async def measure(settings: Settings, workers: int, texts: list[str]) -> tuple[float, float]:
    """Seconds for four cold requests at once, and for one alone."""
    model = open_model(ModelSpec.of(settings), settings.data_dir, weights=False)
    fingerprint = model.fingerprint(settings.dtype)
    queue_redis, cache_redis = connect(settings.redis_url), connect(settings.cache_url)
    queue = EmbeddingQueue(queue_redis, fingerprint, settings.embed_service_max_concurrent_inputs)
    cache = EmbeddingCache(cache_redis, fingerprint, model.dimension)

    def request(name: str) -> list[str]:
        return [f"{texts[i % len(texts)]} {name} {i}" for i in range(PREMISES)]

    async with Embedder(queue, cache, dimension=model.dimension, near_entries=1,
                        chunk_tokens=settings.chunk_tokens) as embedder:  # fmt: skip
        while await queue.workers_alive() < workers:
            await asyncio.sleep(0.1)
        await embedder.embed(["warm up"], "bulk", TTL_S, Deadline.after(60))
        start = time.perf_counter()
        await asyncio.gather(
            *(embedder.embed(request(f"r{i}"), "bulk", TTL_S, Deadline.after(600)) for i in range(AT_ONCE))
        )
        together = time.perf_counter() - start
        start = time.perf_counter()
        await embedder.embed(request("alone"), "bulk", TTL_S, Deadline.after(600))
        alone = time.perf_counter() - start
    await disconnect(queue_redis)
    await disconnect(cache_redis)
    return together, alone


def main() -> None:
    console = Console(width=110)
    print_machine(console, "arq", "redis")
    demo = {**os.environ, **demo_environment()}
    texts = read_corpus(read_archive(Path(demo["DATA_REPO"]) / "premises.tar.gz")).texts
    tokens = sum(estimated_tokens(texts[i % len(texts)]) for i in range(PREMISES))
    lines: list[tuple[object, ...]] = []
    times: dict[int, tuple[float, float]] = {}
    for workers in WORKERS:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            directory = Path(folder)
            queue = stack.enter_context(redis_server(directory))
            cache = stack.enter_context(redis_server(directory, cache=True))
            env = {**demo, "REDIS_URL": queue.url, "CACHE_REDIS_URL": cache.url, "DATA_DIR": str(directory),
                   "LOG_LEVEL": "WARNING", "PYTHONPATH": str(ROOT)}  # fmt: skip
            for _ in range(workers):
                stack.enter_context(running([sys.executable, "-m", "benchmarks.simulated_device"], env))
            settings = Settings.model_validate({
                **{name.lower(): value for name, value in demo_environment().items()},
                "redis_url": queue.url, "cache_redis_url": cache.url, "data_dir": directory,
            })  # fmt: skip
            times[workers] = together, alone = uvloop.run(measure(settings, workers, texts))
            lines.append((workers, AT_ONCE * PREMISES / together, times[1][0] / together, alone, times[1][1] / alone))
    console.print(f"Simulated devices of {os.environ.get('TOKENS_PER_S', TOKENS_PER_S)} tokens/s each; a request is "
                  f"{PREMISES} premises, about {tokens} tokens")  # fmt: skip
    columns = ("workers", f"texts/s, {AT_ONCE} requests", "times one worker", "one request, s", "times one worker")
    console.print(table("Scaling out, devices simulated", columns, lines))


if __name__ == "__main__":
    main()
