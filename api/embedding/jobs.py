"""The jobs that one API process waits for: texts go to the workers in them, and their vectors land here."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from redis.exceptions import RedisError

from api.embedding.flights import Flights
from api.embedding.near_cache import NearCache
from api.embedding.queue import DONE, EmbeddingQueue, Terms, chunks
from api.telemetry.metrics import Metrics
from shared.errors import Overloaded, PremiseServerError, TextFailed, Unavailable
from shared.redis.keys import LANES, Lane
from shared.redis.reply import Reply
from shared.vectors import Vector

logger = logging.getLogger(__name__)

Flight = asyncio.Future[Vector]


class Lost(Exception):
    """The text's job is gone without a reply: look in the cache and queue the text again."""


class _Job(NamedTuple):
    lane: Lane
    digests: set[str]


class Jobs:
    """Single flight by lane and text digest, and the jobs of these texts."""

    def __init__(self, queue: EmbeddingQueue, near: NearCache, chunk_tokens: int, metrics: Metrics) -> None:
        self._queue = queue
        self._near = near
        self._chunk_tokens = chunk_tokens
        self._metrics = metrics
        self._flights: Flights[tuple[Lane, str], Vector] = Flights()
        self._jobs: dict[str, _Job] = {}
        self._submitting: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        submitting = list(self._submitting)
        for task in submitting:
            task.cancel()
        await asyncio.gather(*submitting, return_exceptions=True)

    def lanes(self) -> dict[str, Lane]:
        """The lane of each job that has not been answered, by job id."""
        return {job_id: job.lane for job_id, job in self._jobs.items()}

    async def embed(self, texts: Mapping[str, str], terms: Terms, each_for: int) -> dict[str, Flight]:
        """The flight of each text, by digest: joined, or begun with a job of its own.

        Each text stands for `each_for` texts, for which the queue must have room.

        Raises:
            Overloaded: not all of it is queued.
        """
        lane = terms.lane
        flights = {d: f for d in texts if (f := self._flights.get((lane, d))) is not None}
        mine = {d: text for d, text in texts.items() if d not in flights}
        self._metrics.count_texts(lane, "joined", len(flights))
        for digest in mine:
            flights[digest] = self._flights.begin((lane, digest))
        # Not cancelled with this request: others may have joined its flights meanwhile.
        submitting = asyncio.create_task(self._submit(mine, terms, each_for))
        self._submitting.add(submitting)
        submitting.add_done_callback(self._submitting.discard)
        if refusal := await asyncio.shield(submitting):
            raise refusal
        return flights

    def land(self, reply: Reply, dimension: int) -> None:
        """Take a worker's reply.

        Raises:
            ValueError: its vectors have another dimension.
        """
        for digest, row in zip(reply.digests, reply.rows(dimension), strict=True):
            vector = row.copy()  # a view would keep the whole reply in memory
            self._near.put(digest, vector)
            for lane in LANES:
                self._flights.land((lane, digest), vector)
        for digest, sentence in reply.errors.items():
            for lane in LANES:
                self._flights.fail((lane, digest), TextFailed(sentence))
        # A job that was dropped because its deadline passed embeds nothing.
        self.end(reply.job_id, Lost())

    def end(self, job_id: str, error: Exception) -> None:
        """Forget a job; the error goes to those who wait for a text of it that has not come."""
        job = self._jobs.pop(job_id, None)
        if job is not None:
            self._fail(job.lane, job.digests, error)

    async def _submit(self, texts: Mapping[str, str], terms: Terms, each_for: int) -> Overloaded | None:
        """Returns the refusal, which is this request's alone: who joined its texts may need less room."""
        lane, pending = terms.lane, set(texts)
        try:
            for chunk in chunks(texts, self._chunk_tokens):
                submitted = await self._queue.submit(
                    chunk, terms, wanted=each_for * len(pending), needed=each_for * len(chunk)
                )
                self._metrics.count_texts(lane, "joined", submitted.joined)
                self._metrics.count_texts(lane, "queued", submitted.queued)
                for digest, job_id in submitted.jobs.items():
                    pending.discard(digest)
                    if job_id == DONE:
                        self._fail(lane, [digest], Lost())
                    # A reply can be quicker than this: then the flight has landed.
                    if (lane, digest) in self._flights:
                        self._jobs.setdefault(job_id, _Job(lane, set())).digests.add(digest)
        except Overloaded as error:
            self._fail(lane, pending, Lost())
            return error
        except (RedisError, OSError):
            self._fail(lane, pending, Unavailable("The queue cannot be reached; try again soon."))
        except PremiseServerError as error:
            self._fail(lane, pending, error)
        except Exception:  # flights that nobody lands would hold up every later request for these texts
            logger.exception("submitting failed")
            self._fail(lane, pending, Unavailable("The queue failed; try again soon."))
        return None

    def _fail(self, lane: Lane, digests: Iterable[str], error: Exception) -> None:
        for digest in digests:
            self._flights.fail((lane, digest), error)
