"""What a worker does with one job: embed its texts, keep the vectors in the cache, hand them back."""

import logging
from dataclasses import dataclass

import numpy as np
from redis.exceptions import RedisError

from shared.errors import TextFailed
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.keys import Priority
from shared.redis.reply import Outcome
from worker.batcher import Batcher
from worker.queue_worker import Abandoned

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbedJob:
    """The job function of one priority."""

    batcher: Batcher
    cache: EmbeddingCache
    priority: Priority
    ttl_s: float

    async def __call__(self, digests: list[str], texts: list[str], abandoned: Abandoned) -> Outcome:
        results = await self.batcher.embed(texts, self.priority, abandoned)
        vectors = {d: r for d, r in zip(digests, results, strict=True) if isinstance(r, np.ndarray)}
        errors = {d: str(r) for d, r in zip(digests, results, strict=True) if isinstance(r, TextFailed)}
        # Before the reply: who is answered finds the vector in the cache from then on.
        cached = True
        try:
            await self.cache.put(vectors, self.ttl_s)
        except (RedisError, OSError) as error:
            logger.warning("the cache is away, vectors go to those who wait only: %s", error)
            cached = False
        rows = np.stack(list(vectors.values())) if vectors else np.empty((0, 0), dtype=np.float32)
        return Outcome(list(vectors), rows, errors, cached)
