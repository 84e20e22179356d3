"""The listener: hears the workers' replies for one API process, and notices those that will never come."""

import asyncio
import logging
import time

from redis.exceptions import RedisError

from api.embedding.jobs import Jobs, Lost
from api.embedding.queue import EmbeddingQueue
from shared.errors import Unavailable
from shared.redis.client import stop_if_cancelled
from shared.redis.reply import Reply

logger = logging.getLogger(__name__)

SWEEP_S = 0.25
"""Pause between two searches for jobs that no worker will answer."""
NO_WORKER_PATIENCE_S = 0.3
"""How long no worker may be alive before those who wait are told: one counts as alive for a while after its last sign
of life (`redis_keys.WORKER_TTL_MS`), and the promise is 2 s."""
NO_REDIS_PATIENCE_S = 1.0
"""The same for a Redis that does not answer; it may be restarting."""


class Listener:
    """Two loops over the jobs of one API process; both run until they are cancelled."""

    def __init__(self, queue: EmbeddingQueue, jobs: Jobs, dimension: int) -> None:
        self._queue = queue
        self._jobs = jobs
        self._dimension = dimension
        self._missing: set[str] = set()
        """Jobs that the queue did not know at the last sweep."""

    async def listen(self) -> None:
        """Take replies as they come."""
        while True:
            stop_if_cancelled()
            try:
                async for reply in self._queue.replies():
                    self._take(reply)
            except (RedisError, OSError) as error:
                logger.warning("cannot hear replies, trying again: %s", error)
                await asyncio.sleep(0.1)
            except Exception:  # a process that no longer hears replies would be of no use, and not even look ill
                logger.exception("replies could not be read")
                await asyncio.sleep(0.1)

    async def sweep(self) -> None:
        """End the wait for jobs that are lost, and for all jobs once the workers or Redis are away."""
        well = time.monotonic()
        while True:
            stop_if_cancelled()
            await asyncio.sleep(SWEEP_S)
            if not self._jobs.lanes():
                well = time.monotonic()
                continue
            try:
                await self._end_lost()
                if await self._queue.workers_alive():
                    well = time.monotonic()
                reason, patience_s = "No worker is alive any more; try again soon.", NO_WORKER_PATIENCE_S
            except (RedisError, OSError):
                reason, patience_s = "The queue cannot be reached any more; try again soon.", NO_REDIS_PATIENCE_S
            if time.monotonic() - well > patience_s:
                for job_id in self._jobs.lanes():
                    self._jobs.end(job_id, Unavailable(reason))

    def _take(self, reply: Reply) -> None:
        try:
            self._jobs.land(reply, self._dimension)
        except Exception:  # whatever came, the next reply must be heard, also of those read together with this one
            logger.exception("a reply could not be taken")

    async def _end_lost(self) -> None:
        missing = await self._queue.lost(self._jobs.lanes())
        # A reply that was on its way at the last sweep has come by now.
        for job_id in missing & self._missing:
            self._jobs.end(job_id, Lost())
        self._missing = missing
