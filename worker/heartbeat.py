"""A worker's word about itself in Redis, every few seconds."""

import asyncio
import contextlib
import time

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared.redis import keys as redis_keys
from shared.redis.client import stop_if_cancelled
from shared.redis.worker_status import WorkerStatus, encode_status
from worker.metrics import WorkerMetrics


async def tell_status(redis: ArqRedis, fingerprint: str, worker_id: str, device: str, metrics: WorkerMetrics) -> None:
    """Until cancelled."""
    key = redis_keys.worker_status(fingerprint, worker_id)
    tokens, since = metrics.tokens_computed, time.monotonic()
    while True:
        stop_if_cancelled()
        await asyncio.sleep(redis_keys.WORKER_STATUS_EVERY_MS / 1000)
        now_tokens, now = metrics.tokens_computed, time.monotonic()
        rate = (now_tokens - tokens) / (now - since)
        tokens, since = now_tokens, now
        status = WorkerStatus(worker_id, device, round(rate, 1), metrics.texts_embedded)
        with contextlib.suppress(RedisError, OSError):  # the next one will do
            await redis.set(key, encode_status(status), px=redis_keys.WORKER_STATUS_TTL_MS)
