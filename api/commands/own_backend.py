"""A backend for a command: connections of its own, the same way to the workers as a request's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from api.embedding.backend import Backend, Backends, EmbeddingLimits
from shared.model.directory import ModelDirectory
from shared.redis.connections import Connections
from shared.settings import Settings

NEAR_ENTRIES = 4_096
"""A command goes through its texts once."""


@asynccontextmanager
async def own_backend(settings: Settings, model: ModelDirectory) -> AsyncIterator[Backend]:
    """
    Raises:
        RedisAway: Redis cannot be reached.
    """
    limits = replace(EmbeddingLimits.of(settings), near_entries=NEAR_ENTRIES)
    async with Connections.of(settings.redis_url, settings.cache_url) as redis:
        await redis.require()
        async with Backends(redis, limits).use(model, settings.dtype) as backend:
            yield backend
