"""One model fingerprint's way to its embeddings; its releases and the commands share it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from api.embedding.embedder import Embedder
from api.embedding.queue import EmbeddingQueue
from api.telemetry.metrics import Metrics
from shared.model.directory import ModelDirectory
from shared.redis.connections import Connections
from shared.redis.embedding_cache import EmbeddingCache
from shared.settings import Settings


@dataclass(frozen=True)
class EmbeddingLimits:
    """Bounds of one backend."""

    near_entries: int
    """Embeddings in the near cache."""
    max_inputs: int
    """Texts in the queue at once, over all API processes."""
    chunk_tokens: int
    """Tokens (estimated) of new premises in one job."""

    @classmethod
    def of(cls, settings: Settings) -> "EmbeddingLimits":
        return cls(settings.lru_cache_size, settings.embed_service_max_concurrent_inputs, settings.chunk_tokens)


@dataclass(frozen=True)
class Backend:
    """Queue, cache and embedder of one model fingerprint."""

    fingerprint: str
    queue: EmbeddingQueue
    cache: EmbeddingCache
    embedder: Embedder


class Backends:
    """The backends of one process, one a fingerprint. The last user of a backend closes it."""

    def __init__(self, redis: Connections, limits: EmbeddingLimits, metrics: Metrics | None = None) -> None:
        self._redis = redis
        self._limits = limits
        self._metrics = metrics or Metrics()
        self._open: dict[str, _Open] = {}

    @asynccontextmanager
    async def use(self, model: ModelDirectory, dtype: str) -> AsyncIterator[Backend]:
        """The backend of this model in this type, opened by its first user."""
        fingerprint = model.fingerprint(dtype)
        opened = self._open.get(fingerprint)
        if opened is None:
            opened = self._open[fingerprint] = _Open(self._made(fingerprint, model.dimension), AsyncExitStack())
            await opened.resources.enter_async_context(opened.backend.embedder)
        opened.users += 1
        try:
            yield opened.backend
        finally:
            opened.users -= 1
            if opened.users == 0:
                del self._open[fingerprint]
                await opened.resources.aclose()

    def _made(self, fingerprint: str, dimension: int) -> Backend:
        queue = EmbeddingQueue(self._redis.queue, fingerprint, self._limits.max_inputs)
        cache = EmbeddingCache(self._redis.cache, fingerprint, dimension)
        embedder = Embedder(
            queue,
            cache,
            dimension=dimension,
            near_entries=self._limits.near_entries,
            chunk_tokens=self._limits.chunk_tokens,
            metrics=self._metrics,
        )
        return Backend(fingerprint, queue, cache, embedder)


@dataclass
class _Open:
    backend: Backend
    resources: AsyncExitStack
    users: int = 0
