"""Queue, cache and embedders over a real Redis, with a job function in place of the model."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from api.embedding.embedder import Embedder
from api.embedding.queue import EmbeddingQueue
from shared.redis.client import connect, disconnect
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.job import Job
from shared.redis.keys import Lane
from shared.redis.reply import Reply
from shared.vectors import Vectors
from worker.metrics import WorkerMetrics
from worker.queue_worker import Abandoned, QueueWorker

DIMENSION = 8
FINGERPRINT = "test@1:float32"
TTL_S = 60.0


def vector_of(text: str) -> Vectors:
    """A unit vector that only this text has."""
    row = np.frombuffer(text.encode().ljust(DIMENSION, b"\x01")[-DIMENSION:], np.uint8).astype(np.float32) + 1
    unit: Vectors = row / np.linalg.norm(row)
    return unit


@dataclass
class Work:
    """A job function that counts what it embeds and can be held up."""

    cache: EmbeddingCache | None = None
    delay_s: float = 0.0
    embedded: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)
    failing: Callable[[str], bool] = lambda _text: False

    async def __call__(self, job_id: str, job: Job, abandoned: Abandoned) -> Reply:
        self.order += job.texts
        await asyncio.wait({abandoned}, timeout=self.delay_s)
        if abandoned.done():
            return Reply.of(job_id, {}, {}, cached=False)
        self.embedded.update(job.texts)
        good = {d: vector_of(t) for d, t in zip(job.digests, job.texts, strict=True) if not self.failing(t)}
        if self.cache:
            await self.cache.put(good, job.ttl_s)
        errors = {d: "the model has no embedding" for d in job.digests if d not in good}
        return Reply.of(job_id, good, errors, cached=self.cache is not None)


@asynccontextmanager
async def embedder(url: str, *, max_inputs: int = 10_000, chunk_tokens: int = 64) -> AsyncIterator[Embedder]:
    """What one API process has."""
    queue_redis, cache_redis = connect(url), connect(url)
    queue = EmbeddingQueue(queue_redis, FINGERPRINT, max_inputs)
    cache = EmbeddingCache(cache_redis, FINGERPRINT, DIMENSION)
    try:
        async with Embedder(
            queue, cache, dimension=DIMENSION, near_entries=10_000, chunk_tokens=chunk_tokens
        ) as embedder:
            yield embedder
    finally:
        await disconnect(queue_redis)
        await disconnect(cache_redis)


@asynccontextmanager
async def worker(
    url: str,
    work: Work,
    *,
    lane: Lane = "bulk",
    slots: int = 4,
    name: str = "w",
    metrics: WorkerMetrics | None = None,
) -> AsyncIterator[QueueWorker]:
    """One queue worker, in this process; alive when the block begins."""
    cache_redis = connect(url)
    work.cache = EmbeddingCache(cache_redis, FINGERPRINT, DIMENSION)
    queue_worker = QueueWorker(
        work,
        redis=connect(url),
        fingerprint=FINGERPRINT,
        lane=lane,
        worker_id=name,
        slots=slots,
        claim_most=1,
        completion_wait_s=5,
        metrics=metrics,
    )
    task = asyncio.create_task(queue_worker.async_run())
    await asyncio.sleep(0.1)
    try:
        yield queue_worker
    finally:
        await queue_worker.close()
        await asyncio.gather(task, return_exceptions=True)
        await disconnect(cache_redis)
