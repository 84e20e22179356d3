"""arq's worker without its delays.

Kept from arq: life cycle and signals (`main`, `handle_sig*`), key and job format, health key, serializer, accounting.
Replaced, each for a reason that was measured:

- polling: a blocking pop on a wake list. arq looks every 0.5 s, and looking more often costs an idle core.
- claiming: one script with the job's body in its reply, instead of four round trips a job that die with
  WatchError when a connection is cut. The lease is a score ahead in the queue, so jobs in progress are not
  looked at again, and it is short and renewed, so a killed worker's jobs are free after a second.
- finishing: one script that also sends the reply; arq stores results for callers that poll.
- errors of Redis: waited out. arq's worker exits.
- closing: arq calls a name that redis-py has deprecated.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import numpy as np
from arq.connections import ArqRedis
from arq.jobs import deserialize_job_raw
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from redis.exceptions import RedisError

from shared import redis_keys
from shared.redis_client import BLOCK_S, blocking_pop, disconnect, script, stop_if_cancelled
from shared.reply import Vectors, encode_reply

logger = logging.getLogger(__name__)

JobFunction = Callable[[list[str], list[str]], Awaitable[tuple[list[str], Vectors, dict[str, str]]]]
"""digests, texts -> digests embedded, their vectors, errors by digest"""

NO_VECTORS: Vectors = np.empty((0, 0), dtype=np.float32)

MAX_TRIES = 4
"""A job that took its worker down this often is given up; its texts fail."""


class QueueWorker(Worker):
    """Runs one queue's jobs; a process runs one of these a priority over the same model."""

    def __init__(
        self,
        embed: JobFunction,
        *,
        redis: ArqRedis,
        fingerprint: str,
        priority: redis_keys.Priority,
        worker_id: str,
        slots: int,
        claim_most: int,
        completion_wait_s: int,
    ) -> None:
        async def run(_ctx: dict[Any, Any], *_args: Any, **_kwargs: Any) -> None:
            """Registered because arq's worker must know a function; `run_claimed` runs the jobs."""

        super().__init__(
            [func(cast(WorkerCoroutine, run), name="embed")],
            queue_name=redis_keys.queue(fingerprint, priority),
            redis_pool=redis,
            handle_signals=False,  # one process holds two of these; it passes signals on
            job_completion_wait=completion_wait_s,
            max_jobs=slots,
            poll_delay=0,
            keep_result=0,
            health_check_interval=2,
            health_check_key=f"{redis_keys.worker_health(fingerprint, worker_id)}:{priority}",
            log_results=False,
            job_serializer=redis.job_serializer,
            job_deserializer=redis.job_deserializer,
        )
        self._embed = embed
        self._claim_most = claim_most
        self._worker_id = worker_id
        self._workers_key = redis_keys.workers(fingerprint)
        self._flight_prefix = redis_keys.flight(self.queue_name, "")
        self._claim_script = script(redis, "claim")
        self._renew_script = script(redis, "renew")
        self._finish_script = script(redis, "finish")
        self._slot_freed = asyncio.Event()

    async def main(self) -> None:
        renewing = asyncio.create_task(self._keep_renewing())
        try:
            await super().main()
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with contextlib.suppress(RedisError, OSError):
                await self.pool.zrem(self._workers_key, self._worker_id)

    async def close(self) -> None:
        """End what still runs, giving its jobs back, and close the connections."""
        self.handle_sig(signal.SIGUSR1)
        ending = [*self.tasks.values(), *([self.main_task] if self.main_task else [])]
        await asyncio.gather(*ending, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self.pool.delete(self.health_check_key)
        await disconnect(self.pool)

    async def _poll_iteration(self) -> None:
        stop_if_cancelled()
        for job_id in [job_id for job_id, task in self.tasks.items() if task.done()]:
            self.tasks.pop(job_id).result()
        try:
            await self.heart_beat()
            free = self.max_jobs - len(self.tasks)
            if not self.allow_pick_jobs or free == 0:
                await self._wait_for_slot()
            elif not await self._claim(min(free, self._claim_most)):
                await blocking_pop(self.pool, redis_keys.wake(self.queue_name))
        except (RedisError, OSError) as error:
            logger.warning("Redis is away, trying again: %s", error)
            await asyncio.sleep(0.2)

    async def _wait_for_slot(self) -> None:
        self._slot_freed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BLOCK_S):
                await self._slot_freed.wait()

    async def _claim(self, most: int) -> int:
        claimed = await self._claim_script(
            keys=[self.queue_name],
            args=[most, redis_keys.LEASE_MS, self._worker_id, redis_keys.JOB_TTL_MS],
        )
        for raw_id, body, tries, deadline_ms in claimed:
            job_id = raw_id.decode()
            if job_id in self.tasks:  # our own lease ran out, yet we still work on it
                continue
            task = asyncio.create_task(self.run_claimed(job_id, body, int(tries), int(deadline_ms)))
            task.add_done_callback(lambda _: self._slot_freed.set())
            self.tasks[job_id] = task
        return len(claimed)

    async def run_claimed(self, job_id: str, body: bytes, tries: int, deadline_ms: int) -> None:
        """Run one job and send its reply; errors of Redis leave the job to whoever claims it next."""
        digests: list[str] = []
        try:
            if not body or deadline_ms < time.time() * 1000:
                await self._finish(job_id, digests, encode_reply(job_id, [], NO_VECTORS, {}))
                return
            _, _, job, _, _ = deserialize_job_raw(body, deserializer=self.job_deserializer)
            digests = job["digests"]
            if tries > MAX_TRIES:
                errors = dict.fromkeys(digests, "workers died on the batch with this text")
                await self._finish(job_id, digests, encode_reply(job_id, [], NO_VECTORS, errors))
                return
            done, vectors, errors = await self._embed(digests, job["texts"])
            await self._finish(job_id, digests, encode_reply(job_id, done, vectors, errors))
            self.jobs_complete += 1
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(job_id))
            self.jobs_retried += 1
        except (RedisError, OSError) as error:
            logger.warning("job %s could not be finished and will run again: %s", job_id, error)
        except Exception:
            self.jobs_failed += 1
            logger.exception("job %s failed", job_id)
            errors = dict.fromkeys(digests, "the worker failed on this text")
            with contextlib.suppress(RedisError, OSError):
                await self._finish(job_id, digests, encode_reply(job_id, [], NO_VECTORS, errors))

    async def _finish(self, job_id: str, digests: list[str], reply: bytes) -> None:
        await self._finish_script(
            keys=[self.queue_name, redis_keys.admitted(self.queue_name)],
            args=[job_id, reply, redis_keys.REPLY_TTL_MS, self._flight_prefix, *digests],
        )

    async def _give_back(self, job_id: str) -> None:
        with contextlib.suppress(RedisError, OSError):
            async with self.pool.pipeline(transaction=True) as pipe:
                pipe.zadd(self.queue_name, {job_id: int(time.time() * 1000)}, xx=True)
                pipe.delete(f"arq:in-progress:{job_id}")
                pipe.rpush(redis_keys.wake(self.queue_name), "1")
                await pipe.execute()

    async def _keep_renewing(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                running = [job_id for job_id, task in self.tasks.items() if not task.done()]
                await self._renew_script(
                    keys=[self.queue_name, self._workers_key],
                    args=[redis_keys.LEASE_MS, self._worker_id, redis_keys.WORKER_TTL_MS, *running],
                )
            stop_if_cancelled()
            await asyncio.sleep(redis_keys.RENEW_MS / 1000)
