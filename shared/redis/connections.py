"""Both Redis clients of a process: the queue's and the cache's."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from arq.connections import ArqRedis

from shared.redis.client import connect, disconnect, require


@dataclass(frozen=True)
class Connections:
    """Connects at first use; closes both clients as an async context manager."""

    queue: ArqRedis
    cache: ArqRedis
    queue_url: str
    cache_url: str

    @classmethod
    def of(cls, queue_url: str, cache_url: str) -> Self:
        """
        Raises:
            StartupError: a URL cannot be parsed.
        """
        return cls(connect(queue_url), connect(cache_url), queue_url, cache_url)

    async def require(self) -> None:
        """Wait until both answer.

        Raises:
            RedisAway: one of them does not.
        """
        await require(self.queue, self.queue_url, "REDIS_URL")
        await require(self.cache, self.cache_url, "CACHE_REDIS_URL")

    async def close(self) -> None:
        await disconnect(self.queue)
        await disconnect(self.cache)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
