"""A worker's part in one job: embed its texts, keep the vectors in the cache, hand them back."""

import logging
from dataclasses import dataclass

import numpy as np
from redis.exceptions import RedisError

from shared.errors import TextFailed
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.job import Job
from shared.redis.keys import Lane
from shared.redis.reply import Reply
from worker.batcher import Batcher
from worker.queue_worker import Abandoned

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbedJob:
    """The job function of one lane."""

    batcher: Batcher
    cache: EmbeddingCache
    lane: Lane

    async def __call__(self, job_id: str, job: Job, abandoned: Abandoned) -> Reply:
        results = await self.batcher.embed(job.texts, self.lane, abandoned)
        vectors = {d: r for d, r in zip(job.digests, results, strict=True) if isinstance(r, np.ndarray)}
        errors = {d: str(r) for d, r in zip(job.digests, results, strict=True) if isinstance(r, TextFailed)}
        # Before the reply: who is answered finds the vector in the cache from then on.
        cached = True
        try:
            await self.cache.put(vectors, job.ttl_s)
        except (RedisError, OSError) as error:
            logger.warning("the cache is away, vectors go to those who wait only: %s", error)
            cached = False
        return Reply.of(job_id, vectors, errors, cached=cached)
