"""Embeddings of texts, from the nearest place that has them: this process, Redis, or the workers.

near cache -> Redis cache -> a flight of this process -> a job of any API process -> a new job
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np

from api.embedding.admission import LONG, LongLists
from api.embedding.jobs import Flight, Jobs, Lost
from api.embedding.listener import Listener
from api.embedding.near_cache import NearCache
from api.embedding.queue import EmbeddingQueue, Terms
from api.telemetry.metrics import Metrics
from shared.deadline import Deadline
from shared.errors import DeadlinePassed, TextFailed
from shared.model.text import text_digest
from shared.redis.client import stop_if_cancelled
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.keys import Lane
from shared.vectors import Vector, Vectors

SAMPLE = 16
"""Texts of a long list that are looked at first; one or two more if its length is no multiple."""
LOOK_AGAIN_S = 0.02
"""Before the caches are asked again for a text whose job is gone."""


@dataclass
class _Request:
    terms: Terms
    texts: Sequence[str]
    digests: list[str] = field(default_factory=list)
    """Keys of all texts in caches and queue, in their order; empty before they are known."""
    found: dict[str, Vector] = field(default_factory=dict)
    flights: dict[str, Flight] = field(default_factory=dict)
    """What will come."""


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
        self._dimension = dimension
        self._metrics = metrics or Metrics()
        self._near = NearCache(cache, near_entries, self._metrics)
        self._jobs = Jobs(queue, self._near, chunk_tokens, self._metrics)
        self._listener = Listener(queue, self._jobs, dimension)
        self._long_lists = LongLists(queue)
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._listener.listen()), asyncio.create_task(self._listener.sweep())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._jobs.close()

    async def embed(self, texts: Sequence[str], lane: Lane, ttl_s: float, deadline: Deadline) -> Vectors:
        """Unit vectors, shape [len(texts), dimension]. Workers keep those that they embed in the cache for `ttl_s`.

        A text that another request embeds now is joined; it is then kept as long as that one asked for.

        Raises:
            TextFailed: the model cannot embed one of the texts; says its position, the first of equal texts.
            Overloaded, Unavailable: what is not cached cannot be embedded now.
            DeadlinePassed: not all were embedded by the deadline; those that were stay cached.
        """
        return await self._rows(_Request(Terms(lane, ttl_s, deadline), texts))

    async def embed_anew(self, texts: Sequence[str], deadline: Deadline) -> Vectors:
        """Embed every text anew by a worker, in the bulk lane, whatever is cached. No embedding is kept.

        Raises:
            TextFailed, Overloaded, Unavailable, DeadlinePassed: as `embed`.
        """
        # No cache and no other job knows these keys in place of digests.
        keys = [f"anew-{uuid4().hex}" for _ in texts]
        return await self._rows(_Request(Terms("bulk", 0.0, deadline), texts, keys))

    async def too_late(self, texts: Sequence[str]) -> DeadlinePassed:
        """The error for a request that waited for the texts until its deadline."""
        return self._too_late(set(await asyncio.to_thread(_digests, texts)))

    def _too_late(self, digests: Collection[str]) -> DeadlinePassed:
        done = self._near.count(digests)
        return DeadlinePassed(f"{done} of {len(digests)} texts are embedded by now; they are kept, so try again.")

    async def _rows(self, request: _Request) -> Vectors:
        texts = request.texts
        try:
            async with request.terms.deadline.timeout():
                await self._embed(request)
        except TimeoutError:
            raise (self._too_late(set(request.digests)) if request.digests else await self.too_late(texts)) from None
        rows = [request.found[digest] for digest in request.digests]
        return np.stack(rows) if rows else np.empty((0, self._dimension), np.float32)

    async def _embed(self, request: _Request) -> None:
        """Find all texts of the request."""
        texts, lane = request.texts, request.terms.lane
        async with self._long_lists.turn(len(texts), lane):
            if not request.digests and len(texts) > LONG:
                # Thousands need not be looked up to learn that the queue is full: some from all over the list will do.
                step = len(texts) // SAMPLE
                await self._seek({text_digest(text): text for text in texts[::step]}, request, each_for=step)
                # In a thread: it takes milliseconds, which other requests would wait.
                request.digests = await asyncio.to_thread(_digests, texts)
            request.digests = request.digests or _digests(texts)
            by_digest = dict(zip(request.digests, texts, strict=True))
            await self._seek(by_digest, request)
        while True:
            if request.flights:
                with self._metrics.stage("embed"):
                    await asyncio.wait(request.flights.values(), return_when=asyncio.FIRST_EXCEPTION)
                request.found |= _landed(request)
                request.flights = {}
            if len(request.found) == len(by_digest):
                return
            await asyncio.sleep(LOOK_AGAIN_S)
            async with self._long_lists.turn(len(by_digest) - len(request.found), lane):
                await self._seek(by_digest, request)

    async def _seek(self, texts: Mapping[str, str], request: _Request, each_for: int = 1) -> None:
        """Add what is there, and what will come; a sample's texts stand for several each, for which there must be room.

        Raises:
            TextFailed, Overloaded, Unavailable: as `embed`.
        """
        missing = [d for d in texts if d not in request.found and d not in request.flights]
        with self._metrics.stage("cache"):
            found = await self._near.get(missing, request.terms.lane)
        stop_if_cancelled()
        request.found |= found
        rest = {d: texts[d] for d in missing if d not in found}
        if rest:
            request.flights |= await self._jobs.embed(rest, request.terms, each_for)
        # Also raises what has failed already: waiting for thousands of others first would be work for nothing.
        request.found |= _landed(request)


def _landed(request: _Request) -> dict[str, Vector]:
    """The embeddings that have come. Texts whose jobs were lost, or that come later, are missing.

    Raises:
        TextFailed, Unavailable: a text will not come.
    """
    landed: dict[str, Vector] = {}
    for digest, flight in request.flights.items():
        error = flight.exception() if flight.done() else Lost()
        if isinstance(error, TextFailed):
            digests = request.digests or _digests(request.texts)
            raise TextFailed(str(error), digests.index(digest))
        if not isinstance(error, Lost):
            landed[digest] = flight.result()
    return landed


def _digests(texts: Sequence[str]) -> list[str]:
    return [text_digest(text) for text in texts]
