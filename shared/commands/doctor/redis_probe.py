"""Doing in Redis what API and workers do there, under a name of its own: permissions and scripts, not just a PING."""

import time
from uuid import uuid4

import numpy as np
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared.finding import Finding
from shared.model.text import text_digest
from shared.redis import keys as redis_keys
from shared.redis.client import blocking_pop
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.queue_scripts import QueueScripts

KEPT_MS = 10_000
"""How long the job is waited for."""


async def queue_probe(redis: ArqRedis, subject: str) -> Finding:
    """Send one job through the queue's scripts, both sides played here."""
    probe = _Probe(redis)
    start = time.perf_counter()
    try:
        whole = await probe.run()
    except (RedisError, OSError) as error:
        return _refused(subject, "A job cannot be queued", error)
    finally:
        await probe.forget()
    if not whole:
        return Finding("problem", subject, "A job that was queued for a try got lost.", "Look at its eviction policy.")
    return Finding("ok", subject, f"A job went there and back in {1000 * (time.perf_counter() - start):.1f} ms.")


async def cache_probe(redis: ArqRedis, subject: str) -> Finding:
    """Store a vector for a second and read it."""
    digest, vector = text_digest("doctor"), np.array([0.6, 0.8], np.float32)
    cache = EmbeddingCache(redis, f"doctor-{uuid4().hex}@0:float32", len(vector))
    try:
        await cache.put({digest: vector}, 1)
        back = await cache.get([digest])
    except (RedisError, OSError) as error:
        return _refused(subject, "An embedding cannot be stored", error)
    if digest not in back:
        sentence = "An embedding that was stored for a try did not come back."
        return Finding("problem", subject, sentence, "Raise maxmemory, or look at who else writes there.")
    return Finding("ok", subject, "An embedding that was stored for a try came back.")


def _refused(subject: str, what: str, error: Exception) -> Finding:
    reason = str(error).rstrip(".") or type(error).__name__
    advice = "Allow the user of this URL every command and key."
    if "OOM" in reason:
        advice = "It is full: raise its maxmemory."
    elif "READONLY" in reason:
        advice = "Name the primary in the URL, not a replica."
    elif "MISCONF" in reason:
        advice = "Make room on its disk, or set stop-writes-on-bgsave-error no."
    return Finding("problem", subject, f"{what}: {reason}.", advice)


class _Probe:
    """One job of a fingerprint that nobody else uses."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._name = uuid4().hex
        fingerprint = f"doctor-{self._name}@0:float32"
        self._scripts = QueueScripts(redis, fingerprint, "bulk")
        self._replies = redis_keys.replies(self._name)
        self._digest = text_digest("doctor")
        queue, job = self._scripts.queue, f"{self._name}-1"
        self._job = job
        self._keys = [
            queue,
            self._scripts.wake,
            self._scripts.admitted,
            redis_keys.workers(fingerprint),
            redis_keys.flight(queue, self._digest),
            self._replies,
            *(prefix + job for prefix in redis_keys.JOB_PREFIXES),
        ]

    async def run(self) -> bool:
        """Whether the reply came."""
        await self._scripts.claim("doctor", 1, woken=False)  # a sign of life, without which nothing is queued
        await self._scripts.submit(
            self._name,
            {self._digest: "doctor"},
            reply_list=self._replies,
            wait_ms=KEPT_MS,
            ttl_s=KEPT_MS / 1000,
            max_inputs=1,
            wanted=1,
            needed=1,
            trace="",
        )
        await blocking_pop(self._redis, self._scripts.wake)
        claimed = await self._scripts.claim("doctor", 1, woken=True)
        await self._scripts.renew("doctor", [self._job])
        await self._scripts.finish(self._job, b"", [], [self._digest])
        return len(claimed) == 1 and await blocking_pop(self._redis, self._replies) is not None

    async def forget(self) -> None:
        """Remove what is left, as far as that is allowed."""
        for key in self._keys:
            try:
                await self._redis.unlink(key)
            except (RedisError, OSError):
                return
