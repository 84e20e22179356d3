"""`cache flush`: remove cached embeddings, of one model or of all, and nothing else."""

from collections.abc import Callable

from arq.connections import ArqRedis

from api.commands.cache.entry import belongs_to, fingerprint_of, of_model
from api.commands.cache.inventory import Model, inventory, keys_like
from shared.redis.keys import CACHE_PREFIX


async def to_flush(redis: ArqRedis, name: str | None, advance: Callable[[int], None]) -> list[Model]:
    """The models that `name` means - a model, one revision or one fingerprint of it; None means all."""
    models = await inventory(redis, advance, _pattern(name))
    return [model for model in models if name is None or belongs_to(model.fingerprint, name)]


async def flush(redis: ArqRedis, name: str | None, advance: Callable[[int], None]) -> int:
    """Remove their embeddings a batch at a time; how many there were."""
    removed = 0
    async for keys in keys_like(redis, _pattern(name), advance):
        chosen = [key for key in keys if name is None or belongs_to(fingerprint_of(key), name)]
        if chosen:
            removed += await redis.unlink(*chosen)  # frees memory in another thread of Redis
    return removed


def _pattern(name: str | None) -> str:
    return f"{CACHE_PREFIX}*" if name is None else of_model(name)
