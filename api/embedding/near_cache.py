"""The near cache: embeddings in the memory of one API process, in front of the Redis cache."""

import logging
from collections.abc import Collection, Sequence

from cachetools import LRUCache
from redis.exceptions import RedisError

from api.telemetry.metrics import Metrics
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.keys import Lane
from shared.vectors import Vector

logger = logging.getLogger(__name__)


class NearCache:
    """The latest `entries` embeddings by text digest; what is not among them is looked up in Redis."""

    def __init__(self, cache: EmbeddingCache, entries: int, metrics: Metrics) -> None:
        self._cache = cache
        self._near: LRUCache[str, Vector] = LRUCache(entries)
        self._metrics = metrics

    def put(self, digest: str, vector: Vector) -> None:
        self._near[digest] = vector

    def count(self, digests: Collection[str]) -> int:
        """The number of these texts that the near cache has."""
        return sum(digest in self._near for digest in digests)

    async def get(self, digests: Sequence[str], lane: Lane) -> dict[str, Vector]:
        """The embeddings that are cached here or in Redis; `lane` is for the metrics."""
        found = {d: vector for d in digests if (vector := self._near.get(d)) is not None}
        self._metrics.count_texts(lane, "near", len(found))
        rest = [d for d in digests if d not in found]
        if rest:
            try:
                cached = await self._cache.get(rest)
            except (RedisError, OSError) as error:
                logger.warning("the cache is away, embedding instead: %s", error)
                cached = {}
            self._near.update(cached)
            self._metrics.count_texts(lane, "redis", len(cached))
            found |= cached
            # What landed while Redis was asked has left its flight; missing it here would embed it again.
            landed = {d: vector for d in rest if d not in found and (vector := self._near.get(d)) is not None}
            self._metrics.count_texts(lane, "near", len(landed))
            found |= landed
        return found
