"""One cached embedding: what its key says, and its value."""

from dataclasses import dataclass

import numpy as np
from arq.connections import ArqRedis

from shared.redis.keys import CACHE_PREFIX
from shared.vectors import Vector

PREFIX = CACHE_PREFIX.encode()


@dataclass(frozen=True)
class Entry:
    """What is under one key."""

    fingerprint: str
    digest: str
    ttl_s: float | None
    """None: it stays until it is evicted."""
    vector: Vector
    """Empty if the value is no row of float32."""

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.vector.astype(np.float64)))

    @property
    def lifetime(self) -> str:
        return "no TTL" if self.ttl_s is None else f"{self.ttl_s:,.0f} s left"


def fingerprint_of(key: bytes) -> str:
    """The `{model}@{revision}:{dtype}` in a key."""
    return key.removeprefix(PREFIX).rpartition(b":")[0].decode(errors="replace")


async def read_entry(redis: ArqRedis, key: bytes) -> Entry | None:
    """None if nothing is there."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.get(key)
        pipe.pttl(key)
        value, ttl_ms = await pipe.execute()
    if value is None:
        return None
    whole = value if len(value) % 4 == 0 else b""
    return Entry(
        fingerprint=fingerprint_of(key),
        digest=key.rpartition(b":")[2].decode(errors="replace"),
        ttl_s=None if ttl_ms < 0 else ttl_ms / 1000,
        vector=np.frombuffer(whole, "<f4").astype(np.float32),
    )


def any_model(digest: str) -> str:
    """The pattern of one text's keys."""
    return f"{CACHE_PREFIX}*:{digest}"


def of_model(name: str) -> str:
    """A pattern that has all keys of a model or fingerprint, and others that begin like it."""
    quoted = "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in name)
    return f"{CACHE_PREFIX}{quoted}[@:]*"


def belongs_to(fingerprint: str, name: str) -> bool:
    """Whether `name` is that fingerprint, its model with revision, or its model."""
    model = fingerprint.rpartition(":")[0]
    return name in (fingerprint, model, model.rpartition("@")[0])
