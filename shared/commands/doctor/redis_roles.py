"""Whether each Redis suits its role: the queue must lose nothing, the cache must be bounded and may forget."""

import asyncio

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared.commands.doctor.redis_instance import NEARLY_FULL, Instance, general, inspect, mib, unreachable
from shared.commands.doctor.redis_probe import cache_probe, queue_probe
from shared.finding import Finding
from shared.redis.connections import Connections
from shared.settings import Settings

QUEUE, CACHE = "queue Redis", "cache Redis"


async def redis_findings(settings: Settings) -> list[Finding]:
    async with Connections.of(settings.redis_url, settings.cache_url) as redis:
        queue, cache = await asyncio.gather(
            _reached(redis.queue, QUEUE, "REDIS_URL", settings.redis_url),
            _reached(redis.cache, CACHE, "CACHE_REDIS_URL", settings.cache_url),
        )
        findings: list[Finding] = []
        shared = isinstance(queue, Instance) and isinstance(cache, Instance) and queue.run_id == cache.run_id
        if isinstance(queue, Finding):
            findings.append(queue)
        else:
            findings += [*general(queue, settings.redis_url), *queue_role(queue), await queue_probe(redis.queue, QUEUE)]
        if isinstance(cache, Finding):
            findings.append(cache)
        else:
            findings += [] if shared else [*general(cache, settings.cache_url), *cache_role(cache)]
            findings.append(await cache_probe(redis.cache, CACHE))
        return findings + ([_one_for_both(cache)] if shared and isinstance(cache, Instance) else [])


async def _reached(redis: ArqRedis, subject: str, setting: str, url: str) -> Instance | Finding:
    try:
        return await inspect(redis, subject, setting)
    except (RedisError, OSError) as error:
        return unreachable(subject, setting, url, error)


def queue_role(queue: Instance) -> list[Finding]:
    findings = []
    if queue.policy != "noeviction":
        sentence = f"Its policy is {queue.policy}: once memory is short it drops waiting jobs, whose keys carry a TTL."
        findings.append(Finding("warning", QUEUE, sentence, "Set maxmemory-policy noeviction on it."))
    if queue.maxmemory and queue.used > NEARLY_FULL * queue.maxmemory:
        sentence = f"{mib(queue.used)} of {mib(queue.maxmemory)} are used; when it is full, nothing can be queued."
        findings.append(Finding("warning", QUEUE, sentence, "Raise its maxmemory, or move the cache elsewhere."))
    return findings


def cache_role(cache: Instance) -> list[Finding]:
    findings = []
    if not cache.maxmemory:
        sentence = "It has no maxmemory, so it grows until the machine has no memory left."
        findings.append(Finding("warning", CACHE, sentence, "Set maxmemory, and maxmemory-policy allkeys-lfu."))
    elif cache.policy == "noeviction":
        sentence = f"Its policy is noeviction: at {mib(cache.maxmemory)} it stops taking new embeddings."
        findings.append(Finding("warning", CACHE, sentence, "Set maxmemory-policy allkeys-lfu on it."))
    if cache.saves is False:
        sentence = "It keeps nothing on disk, so after its restart everything is embedded again."
        findings.append(Finding("warning", CACHE, sentence, "Let it take snapshots, for instance with --save 300 1."))
    if cache.info.get("rdb_last_bgsave_status", "ok") != "ok":
        sentence = "Its last snapshot failed; with Redis's defaults it then refuses to store anything."
        findings.append(
            Finding("warning", CACHE, sentence, "Look for a full disk, and set stop-writes-on-bgsave-error no.")
        )
    return findings


def _one_for_both(instance: Instance) -> Finding:
    bounds = f"{mib(instance.maxmemory)} with policy {instance.policy}" if instance.maxmemory else "no maxmemory"
    sentence = f"Queue and cache are the same Redis ({bounds}): a growing cache takes the queue's memory."
    return Finding("warning", CACHE, sentence, "Give the cache a Redis of its own and name it in CACHE_REDIS_URL.")
