"""`cache stats`: what is in the cache, what it takes, how long it stays, how often it helps."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from arq.connections import ArqRedis
from rich.console import Console
from rich.table import Table

from api.commands.cache.inventory import Model, inventory
from shared.progress import duration, progress

LENGTHS = 3
"""Values whose length is asked for; Redis counts that as hits."""


class ModelStats(msgspec.Struct, frozen=True):
    """One fingerprint. What is measured is measured on a sample."""

    fingerprint: str
    keys: int
    dimension: int
    bytes_per_key: int
    """Key, value and what Redis adds."""
    bytes_total: int
    ttl_s: list[float]
    """10 %, 50 % and 90 % of the keys have less time left."""


class InstanceStats(msgspec.Struct, frozen=True):
    """The whole Redis instance since it started, whoever else uses it."""

    keys: int
    used_bytes: int
    max_bytes: int
    """0: no limit."""
    policy: str
    hits: int
    misses: int
    evicted: int
    expired: int

    @property
    def hit_rate(self) -> float | None:
        asked = self.hits + self.misses
        return self.hits / asked if asked else None


class CacheStats(msgspec.Struct, frozen=True):
    models: list[ModelStats]
    instance: InstanceStats


async def cache_stats(redis: ArqRedis, console: Console) -> CacheStats:
    """Progress goes to `console`."""
    keys = await redis.dbsize()
    with progress("counting keys", keys, console) as advance:
        models = await inventory(redis, advance)
    info: Mapping[str, Any] = await redis.info()
    instance = InstanceStats(
        keys=keys,
        used_bytes=info["used_memory"],
        max_bytes=info.get("maxmemory", 0),
        policy=str(info.get("maxmemory_policy", "unknown")),
        hits=info["keyspace_hits"],
        misses=info["keyspace_misses"],
        evicted=info["evicted_keys"],
        expired=info["expired_keys"],
    )
    return CacheStats([await _measured(redis, model) for model in models], instance)


async def _measured(redis: ArqRedis, model: Model) -> ModelStats:
    async with redis.pipeline(transaction=False) as pipe:
        for key in model.sample:
            pipe.memory_usage(key)
            pipe.pttl(key)
        for key in model.sample[:LENGTHS]:
            pipe.strlen(key)
        replies = await pipe.execute()
    measured = 2 * len(model.sample)
    # A key that went meanwhile has no memory; a negative TTL is none.
    sizes = [size for size in replies[:measured:2] if size]
    ttls = [ttl / 1000 for ttl in replies[1:measured:2] if ttl >= 0]
    each = round(float(np.mean(sizes))) if sizes else 0
    dimension = max(replies[measured:]) // 4
    quantiles = np.quantile(ttls, [0.1, 0.5, 0.9]).round(1).tolist() if ttls else []
    return ModelStats(model.fingerprint, model.keys, dimension, each, each * model.keys, quantiles)


def as_json(stats: CacheStats) -> str:
    return msgspec.json.encode(stats).decode()


def show(stats: CacheStats, console: Console) -> None:
    """Tables on a terminal, else lines of columns."""
    rows = [
        (m.fingerprint, f"{m.keys:,}", str(m.dimension), _mb(m.bytes_total), str(m.bytes_per_key), _ttl(m.ttl_s))
        for m in stats.models
    ]
    _table(console, ("model", "keys", "dimension", "memory", "bytes a key", "time left (10/50/90 %)"), rows)
    i = stats.instance
    rate = f"{100 * i.hit_rate:.1f} %" if i.hit_rate is not None else "not asked yet"
    limit = _mb(i.max_bytes) if i.max_bytes else "no limit"
    _table(
        console,
        ("this Redis", ""),
        [
            ("keys", f"{i.keys:,}"),
            ("memory", f"{_mb(i.used_bytes)} of {limit}, policy {i.policy}"),
            ("hit rate", f"{rate} ({i.hits:,} hits, {i.misses:,} misses since it started)"),
            ("evicted", f"{i.evicted:,}"),
            ("expired", f"{i.expired:,}"),
        ],
    )


def _table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not console.is_terminal:
        for row in [header, *rows]:
            console.print("  ".join(row).rstrip(), markup=False, highlight=False, soft_wrap=True)
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _ttl(quantiles: Sequence[float]) -> str:
    return " / ".join(map(duration, quantiles)) if quantiles else "no TTL"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
