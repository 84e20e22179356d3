"""How many embeddings of which model are cached. Keys are walked with SCAN, which holds up nobody."""

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from arq.connections import ArqRedis

from api.commands.cache.entry import fingerprint_of
from shared.redis.keys import CACHE_PREFIX

SCANNED = 1_000
"""Keys looked at in one call; takes Redis less than a millisecond."""
SAMPLED = 200
"""Keys of a model that are measured."""


@dataclass
class Model:
    """The cached embeddings of one fingerprint."""

    fingerprint: str
    keys: int = 0
    sample: list[bytes] = field(default_factory=list)
    """Some of the keys, each with the same chance."""

    def add(self, key: bytes, chance: random.Random) -> None:
        self.keys += 1
        if len(self.sample) < SAMPLED:
            self.sample.append(key)
        elif (place := chance.randrange(self.keys)) < SAMPLED:  # Vitter's algorithm R
            self.sample[place] = key


async def keys_like(redis: ArqRedis, pattern: str, advance: Callable[[int], None]) -> AsyncIterator[list[bytes]]:
    """Keys that match, in batches; some may come twice. `advance` gets how many were looked at, roughly."""
    cursor = 0
    while True:
        cursor, keys = await redis.scan(cursor, pattern, SCANNED)
        advance(SCANNED)
        if keys:
            yield keys
        if cursor == 0:
            return


async def inventory(redis: ArqRedis, advance: Callable[[int], None], pattern: str = f"{CACHE_PREFIX}*") -> list[Model]:
    """The models that have cached embeddings, most first."""
    models: dict[str, Model] = {}
    chance = random.Random(0)
    async for keys in keys_like(redis, pattern, advance):
        for key in keys:
            fingerprint = fingerprint_of(key)
            models.setdefault(fingerprint, Model(fingerprint)).add(key, chance)
    return sorted(models.values(), key=lambda model: (-model.keys, model.fingerprint))
