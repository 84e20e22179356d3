"""The Redis cache of embeddings. Keys are readable, values are raw little-endian float32."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from arq.connections import ArqRedis

from shared.redis import keys as redis_keys
from shared.vectors import Vector

KEYS_PER_CALL = 256
"""One MGET or pipeline; more would keep Redis from others for milliseconds."""


class EmbeddingCache:
    """Embeddings of one fingerprint by text digest."""

    def __init__(self, redis: ArqRedis, fingerprint: str, dimension: int) -> None:
        self._redis = redis
        self._fingerprint = fingerprint
        self._dimension = dimension

    async def get(self, digests: Sequence[str]) -> dict[str, Vector]:
        """What is cached, shape [dimension] each; a value that is no unit vector counts as a miss."""
        found: dict[str, Vector] = {}
        for start in range(0, len(digests), KEYS_PER_CALL):
            part = digests[start : start + KEYS_PER_CALL]
            values = await self._redis.mget(redis_keys.embedding(self._fingerprint, d) for d in part)
            found |= self._decode(part, values)
        return found

    async def put(self, vectors: Mapping[str, Vector], ttl_s: float) -> None:
        """Store each vector under its digest for `ttl_s` seconds; with 0 none is stored."""
        items = list(vectors.items()) if ttl_s > 0 else []
        for start in range(0, len(items), KEYS_PER_CALL):
            async with self._redis.pipeline(transaction=False) as pipe:
                for digest, vector in items[start : start + KEYS_PER_CALL]:
                    key = redis_keys.embedding(self._fingerprint, digest)
                    pipe.set(key, vector.astype("<f4").tobytes(), px=int(ttl_s * 1000))
                await pipe.execute()

    def _decode(self, digests: Iterable[str], values: Iterable[bytes | None]) -> dict[str, Vector]:
        size = 4 * self._dimension
        hits = [(d, v) for d, v in zip(digests, values, strict=True) if v is not None and len(v) == size]
        if not hits:
            return {}
        rows = np.frombuffer(b"".join(v for _, v in hits), dtype="<f4").reshape(len(hits), -1)
        with np.errstate(over="ignore", invalid="ignore"):  # garbage in Redis may overflow here
            unit = np.abs(np.einsum("ij,ij->i", rows, rows) - 1.0) < 0.01
        return {digest: rows[i].copy() for i, (digest, _) in enumerate(hits) if unit[i]}
