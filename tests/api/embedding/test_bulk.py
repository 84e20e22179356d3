"""Texts that no client waits for: embedded however long workers are busy or missing."""

import asyncio

import numpy as np
import pytest

from api.commands.cache.warm import Outcome, warm
from api.embedding.bulk import BulkEmbedder, windows
from shared.errors import TextFailed
from shared.model.text import text_digest
from shared.redis import keys as redis_keys
from shared.redis.client import connect, disconnect
from shared.redis.embedding_cache import EmbeddingCache
from tests.support.queue_system import DIMENSION, FINGERPRINT, TTL_S, Work, embedder, vector_of, worker
from tests.support.servers import RedisServer

TEXTS = [f"theorem t{i} : x = x" for i in range(20)]


def test_windows_hold_every_item_once_in_order() -> None:
    assert [list(part) for part in windows(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(windows([], 3)) == []


def test_missing_workers_are_waited_for_and_told_of_once(redis_instance: RedisServer) -> None:
    url, told = redis_instance.url, list[str]()

    async def run() -> None:
        async with embedder(url) as e:
            waiting = asyncio.create_task(BulkEmbedder(e, TTL_S).embed(TEXTS, told.append))
            await asyncio.sleep(2)  # two attempts without a worker at least
            async with worker(url, Work()):
                rows = await waiting
        assert np.allclose(rows, np.stack([vector_of(text) for text in TEXTS]))

    asyncio.run(run())
    assert len(told) == 1
    assert told[0].startswith("waiting: No worker is alive")


def test_busy_workers_are_waited_for(redis_instance: RedisServer) -> None:
    url, told = redis_instance.url, list[str]()
    queue = redis_keys.queue(FINGERPRINT, "bulk")

    async def run() -> None:
        async with embedder(url, max_inputs=30) as e, worker(url, Work()):
            with redis_instance.client() as client:
                client.zadd(queue, {"job-20": 2**52})
                client.set(redis_keys.admitted(queue), 20)
                client.set(redis_keys.drained(queue) + str(client.time()[0] * 1000 // redis_keys.DRAIN_MS), 1_000)
                waiting = asyncio.create_task(BulkEmbedder(e, TTL_S).embed(TEXTS, told.append))
                while not told:
                    await asyncio.sleep(0.05)
                client.delete(queue, redis_keys.admitted(queue))
            assert len(await waiting) == len(TEXTS)

    asyncio.run(run())
    assert told[0].startswith("waiting: The workers are busy with")


def test_a_text_that_fails_is_named_by_its_position(redis_instance: RedisServer) -> None:
    url, work = redis_instance.url, Work(failing=lambda text: text == TEXTS[7])

    async def run() -> None:
        async with embedder(url) as e, worker(url, work):
            with pytest.raises(TextFailed) as failed:
                await BulkEmbedder(e, TTL_S).embed([*TEXTS, TEXTS[7]], print)
        assert failed.value.position == 7

    asyncio.run(run())


def test_warming_goes_on_after_texts_that_fail_and_names_them(redis_instance: RedisServer) -> None:
    url, outcome = redis_instance.url, Outcome()
    bad = [TEXTS[3], TEXTS[4], TEXTS[19]]
    work, advanced = Work(failing=lambda text: text in bad), list[int]()

    async def run() -> None:
        redis = connect(url)
        cache = EmbeddingCache(redis, FINGERPRINT, DIMENSION)
        await cache.put({text_digest(TEXTS[0]): vector_of(TEXTS[0])}, TTL_S)
        async with embedder(url) as e, worker(url, work):
            await warm(BulkEmbedder(e, TTL_S), cache, TEXTS, 8, outcome, advanced.append, print)
        await disconnect(redis)

    asyncio.run(run())
    assert advanced == [8, 8, 4]
    assert outcome.failed == {text_digest(text): "the model has no embedding" for text in bad}
    assert (outcome.cached, outcome.embedded) == (1, 16)
