"""An embedder for a command: connections of its own, the same way to the workers as a request's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.embedding.embedder import Embedder
from api.embedding.queue import EmbeddingQueue
from shared.model.directory import ModelDirectory
from shared.redis.client import connect, disconnect, require
from shared.redis.embedding_cache import EmbeddingCache
from shared.settings import Settings

NEAR_ENTRIES = 4_096
"""A command goes through its texts once."""


@dataclass(frozen=True)
class OwnEmbedder:
    embedder: Embedder
    queue: EmbeddingQueue
    cache: EmbeddingCache


@asynccontextmanager
async def own_embedder(settings: Settings, model: ModelDirectory) -> AsyncIterator[OwnEmbedder]:
    """
    Raises:
        StartupError: Redis cannot be reached.
    """
    fingerprint = model.fingerprint(settings.dtype)
    queue_redis, cache_redis = connect(settings.redis_url), connect(settings.cache_url)
    try:
        await require(queue_redis, settings.redis_url, "REDIS_URL")
        await require(cache_redis, settings.cache_url, "CACHE_REDIS_URL")
        queue = EmbeddingQueue(queue_redis, fingerprint, settings.embed_service_max_concurrent_inputs)
        cache = EmbeddingCache(cache_redis, fingerprint, model.dimension)
        async with Embedder(
            queue, cache, dimension=model.dimension, near_entries=NEAR_ENTRIES, chunk_tokens=settings.chunk_tokens
        ) as embedder:
            yield OwnEmbedder(embedder, queue, cache)
    finally:
        await disconnect(queue_redis)
        await disconnect(cache_redis)
