"""Embeddings of texts, from the nearest place that has them: this process, Redis, or the workers.

near cache -> Redis cache -> a flight of this process -> a job of any API process -> a new job
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from cachetools import LRUCache
from redis.exceptions import RedisError

from api.embedding.admission import LONG, LongLists
from api.embedding.queue import DONE, EmbeddingQueue, chunks
from api.telemetry.metrics import Metrics
from shared.errors import DeadlinePassed, Overloaded, PremiseServerError, TextFailed, Unavailable
from shared.model.text import text_digest
from shared.redis.client import stop_if_cancelled
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.keys import PRIORITIES, Priority
from shared.redis.reply import Reply
from shared.vectors import Vector, Vectors

logger = logging.getLogger(__name__)

Flight = asyncio.Future[Vector]

SAMPLE = 16
"""Texts of a long list that are looked at first; one or two more if its length is no multiple."""
SWEEP_S = 0.25
"""How often jobs are looked for that will never be answered."""
LOOK_AGAIN_S = 0.02
"""Before the caches are asked again for a text whose job is gone."""
NO_WORKER_PATIENCE_S = 0.3
"""How long no worker may be alive before those who wait are told: one counts as alive for a while after its last sign
of life (`redis_keys.WORKER_TTL_MS`), and the promise is 2 s."""
NO_REDIS_PATIENCE_S = 1.0
"""The same for a Redis that does not answer; it may be restarting."""


class _Lost(Exception):
    """The job is gone without a reply: look in the cache and queue again."""


@dataclass
class _Request:
    priority: Priority
    give_up: float
    """When, by `time.monotonic`."""
    found: dict[str, Vector] = field(default_factory=dict)
    flights: dict[str, Flight] = field(default_factory=dict)
    """What will come."""


@dataclass
class _Job:
    priority: Priority
    digests: set[str] = field(default_factory=set)
    sweeps_missing: int = 0


class Embedder:
    """Embeds for all requests of one API process; use as an async context manager."""

    def __init__(
        self,
        queue: EmbeddingQueue,
        cache: EmbeddingCache,
        *,
        dimension: int,
        near_entries: int,
        chunk_tokens: int,
        metrics: Metrics | None = None,
    ) -> None:
        self._queue = queue
        self._cache = cache
        self._dimension = dimension
        self._chunk_tokens = chunk_tokens
        self._metrics = metrics or Metrics()
        self._near: LRUCache[str, Vector] = LRUCache(near_entries)
        self._flights: dict[tuple[Priority, str], Flight] = {}
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.long_lists = LongLists()

    async def __aenter__(self) -> Self:
        self._tasks = {asyncio.create_task(self._listen()), asyncio.create_task(self._sweep())}
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def embed(self, texts: Sequence[str], priority: Priority, timeout_s: float) -> Vectors:
        """Unit vectors, shape [len(texts), dimension].

        Raises:
            TextFailed: the model cannot embed one of the texts; names its digest.
            Overloaded, Unavailable: what is not cached cannot be embedded now.
            DeadlinePassed: not all were embedded within `timeout_s` seconds; those that were stay cached.
        """
        request = _Request(priority, time.monotonic() + timeout_s)
        by_digest: dict[str, str] = {}
        try:
            async with asyncio.timeout(timeout_s):
                async with self.long_lists.turn(len(texts)):
                    if len(texts) > LONG:
                        await self._seek_some(texts, request)
                        # In a thread: it takes milliseconds, which other requests would wait.
                        digests = await asyncio.to_thread(_digests, texts)
                    else:
                        digests = _digests(texts)
                    by_digest = dict(zip(digests, texts, strict=True))
                    await self._seek(by_digest, request)
                while True:
                    if request.flights:
                        with self._metrics.stage("embed"):
                            request.found |= await _landed(request.flights)
                        request.flights = {}
                    if len(request.found) == len(by_digest):
                        break
                    await asyncio.sleep(LOOK_AGAIN_S)
                    async with self.long_lists.turn(len(by_digest) - len(request.found)):
                        await self._seek(by_digest, request)
        except TimeoutError:
            raise (self._too_late(by_digest) if by_digest else await self.too_late(texts)) from None
        return np.stack([request.found[d] for d in digests]) if digests else np.empty((0, self._dimension), np.float32)

    async def too_late(self, texts: Sequence[str]) -> DeadlinePassed:
        """What to tell one who waited for the texts and may wait no longer."""
        return self._too_late(set(await asyncio.to_thread(_digests, texts)))

    def _too_late(self, digests: Collection[str]) -> DeadlinePassed:
        done = sum(d in self._near for d in digests)
        return DeadlinePassed(f"{done} of {len(digests)} texts are embedded by now; they are kept, so try again.")

    async def _seek_some(self, texts: Sequence[str], request: _Request) -> None:
        """Some texts of a long list, from all over it: thousands need not be looked up to learn that the queue is full.

        Raises:
            Overloaded, Unavailable: as `_seek`.
        """
        step = len(texts) // SAMPLE
        try:
            await self._seek({text_digest(text): text for text in texts[::step]}, request, each_for=step)
        except Overloaded as error:
            self.long_lists.told(error.retry_after or 0)
            raise

    async def _seek(self, texts: Mapping[str, str], request: _Request, each_for: int = 1) -> None:
        """Add what is there, and what will come; a sample's texts stand for several each, for which there must be room.

        Raises:
            Overloaded, Unavailable: what is not there cannot be embedded now.
        """
        missing = [d for d in texts if d not in request.found and d not in request.flights]
        with self._metrics.stage("cache"):
            found = await self._cached(missing, request.priority)
        stop_if_cancelled()
        request.found |= found
        request.flights |= await self._queued({d: texts[d] for d in missing if d not in found}, request, each_for)
        for flight in request.flights.values():
            if flight.done() and isinstance(flight.exception(), PremiseServerError):
                flight.result()  # waiting for thousands of others first would be work for nothing

    async def _cached(self, digests: Sequence[str], priority: Priority) -> dict[str, Vector]:
        found = {d: vector for d in digests if (vector := self._near.get(d)) is not None}
        self._metrics.count_texts(priority, "near", len(found))
        rest = [d for d in digests if d not in found]
        if rest:
            try:
                cached = await self._cache.get(rest)
            except (RedisError, OSError) as error:
                logger.warning("the cache is away, embedding instead: %s", error)
                cached = {}
            self._near.update(cached)
            self._metrics.count_texts(priority, "redis", len(cached))
            found |= cached
            # What landed while Redis was asked has left its flight; missing it here would embed it again.
            landed = {d: vector for d in rest if d not in found and (vector := self._near.get(d)) is not None}
            self._metrics.count_texts(priority, "near", len(landed))
            found |= landed
        return found

    async def _queued(self, texts: Mapping[str, str], request: _Request, each_for: int) -> dict[str, Flight]:
        """What the workers will embed, or already do.

        Raises:
            Overloaded: not all of it is.
        """
        if not texts:
            return {}
        priority = request.priority
        flights = {d: f for d in texts if (f := self._flights.get((priority, d))) is not None}
        mine = {d: text for d, text in texts.items() if d not in flights}
        self._metrics.count_texts(priority, "joined", len(flights))
        for digest in mine:
            self._flights[priority, digest] = flights[digest] = asyncio.get_running_loop().create_future()
        # Not cancelled with this request: others may have joined its flights meanwhile.
        submitting = asyncio.create_task(self._submit(mine, request, each_for))
        self._tasks.add(submitting)
        submitting.add_done_callback(self._tasks.discard)
        if refusal := await asyncio.shield(submitting):
            raise refusal
        return flights

    async def _submit(self, texts: Mapping[str, str], request: _Request, each_for: int) -> Overloaded | None:
        """Returns the refusal, which is this request's alone: who joined its texts may need less room."""
        priority, pending = request.priority, set(texts)
        try:
            for chunk in chunks(texts, self._chunk_tokens):
                wait_ms = int(1000 * (request.give_up - time.monotonic()))
                submitted = await self._queue.submit(
                    chunk, priority, wait_ms, wanted=each_for * len(pending), needed=each_for * len(chunk)
                )
                self._metrics.count_texts(priority, "joined", submitted.joined)
                self._metrics.count_texts(priority, "queued", submitted.queued)
                for digest, job_id in submitted.jobs.items():
                    pending.discard(digest)
                    if job_id == DONE:
                        self._fail(priority, [digest], _Lost())
                    # A reply can be quicker than this: then the flight has landed.
                    if (priority, digest) in self._flights:
                        self._jobs.setdefault(job_id, _Job(priority)).digests.add(digest)
        except Overloaded as error:
            self._fail(priority, pending, _Lost())
            return error
        except (RedisError, OSError):
            self._fail(priority, pending, Unavailable("The queue cannot be reached; try again soon."))
        except PremiseServerError as error:
            self._fail(priority, pending, error)
        except Exception:  # flights that nobody lands would hold up every later request for these texts
            logger.exception("submitting failed")
            self._fail(priority, pending, Unavailable("The queue failed; try again soon."))
        return None

    async def _listen(self) -> None:
        while True:
            stop_if_cancelled()
            try:
                async for reply in self._queue.replies():
                    self._land_safely(reply)
            except (RedisError, OSError) as error:
                logger.warning("cannot hear replies, trying again: %s", error)
                await asyncio.sleep(0.1)
            except Exception:  # a process that no longer hears replies would be of no use, and not even look ill
                logger.exception("replies could not be read")
                await asyncio.sleep(0.1)

    def _land_safely(self, reply: Reply) -> None:
        try:
            self._land(reply)
        except Exception:  # whatever came, the next reply must be heard, also of those read together with this one
            logger.exception("a reply could not be taken")

    def _land(self, reply: Reply) -> None:
        for digest, row in zip(reply.digests, reply.rows(self._dimension), strict=True):
            vector = row.copy()  # a view would keep the whole reply in memory
            self._near[digest] = vector
            for priority in PRIORITIES:
                flight = self._flights.pop((priority, digest), None)
                if flight is not None and not flight.done():
                    flight.set_result(vector)
        for digest, sentence in reply.errors.items():
            for priority in PRIORITIES:
                self._fail(priority, [digest], TextFailed(sentence, digest))
        job = self._jobs.pop(reply.job_id, None)
        if job is not None:  # a job that was dropped because its deadline passed embeds nothing
            self._fail(job.priority, job.digests, _Lost())

    async def _sweep(self) -> None:
        """Ends waiting that no reply will end: for jobs that are lost, workers or a Redis that are away."""
        well = time.monotonic()
        while True:
            stop_if_cancelled()
            await asyncio.sleep(SWEEP_S)
            if not self._jobs:
                well = time.monotonic()
                continue
            try:
                await self._find_lost()
                if await self._queue.workers_alive():
                    well = time.monotonic()
                reason, patience_s = "No worker is alive any more; try again soon.", NO_WORKER_PATIENCE_S
            except (RedisError, OSError):
                reason, patience_s = "The queue cannot be reached any more; try again soon.", NO_REDIS_PATIENCE_S
            if time.monotonic() - well > patience_s:
                for job in self._jobs.values():
                    self._fail(job.priority, job.digests, Unavailable(reason))
                self._jobs.clear()

    async def _find_lost(self) -> None:
        lost = await self._queue.lost({job_id: job.priority for job_id, job in self._jobs.items()})
        for job_id, job in list(self._jobs.items()):
            job.sweeps_missing = job.sweeps_missing + 1 if job_id in lost else 0
            if job.sweeps_missing == 2:  # a reply that was on its way at the first has come by the second
                del self._jobs[job_id]
                self._fail(job.priority, job.digests, _Lost())

    def _fail(self, priority: Priority, digests: Iterable[str], error: Exception) -> None:
        for digest in digests:
            flight = self._flights.pop((priority, digest), None)
            if flight is not None and not flight.done():
                flight.set_exception(error)
                flight.exception()  # seen, even if no request waits any more


async def _landed(flights: Mapping[str, Flight]) -> dict[str, Vector]:
    """Wait for the workers. Texts whose jobs were lost, or that come later, are missing from the result."""
    done, _ = await asyncio.wait(flights.values(), return_when=asyncio.FIRST_EXCEPTION)
    arrived = {d: f for d, f in flights.items() if f in done and not isinstance(f.exception(), _Lost)}
    return {d: f.result() for d, f in arrived.items()}


def _digests(texts: Sequence[str]) -> list[str]:
    return [text_digest(text) for text in texts]
