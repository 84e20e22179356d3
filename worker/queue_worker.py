"""arq's worker without its delays.

Kept from arq: life cycle and signals (`async_run`, `handle_sig*`), key and job format, health key, serializer.
Replaced, each for a reason that was measured:

- polling: a blocking pop on a wake list. arq looks every 0.5 s, and looking more often costs an idle core.
- claiming: one script with the job's body in its reply, instead of four round trips a job that die with
  WatchError when a connection is cut. The lease is a score ahead in the queue, so jobs in progress are not
  looked at again, and it is short and renewed, so a killed worker's jobs are free after a second.
- finishing: one script that also sends the reply; arq stores results for callers that poll.
- errors of Redis: waited out, from the first moment on. arq's worker exits.
- closing: arq calls a name that redis-py has deprecated.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any, cast

from arq.connections import ArqRedis
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer
from redis.exceptions import RedisError

from shared.errors import ModelBroken
from shared.redis import keys as redis_keys
from shared.redis.client import BLOCK_S, blocking_pop, disconnect, stop_if_cancelled
from shared.redis.job import Job, decode_body
from shared.redis.keys import Lane
from shared.redis.queue_scripts import FUNCTION, Claimed, QueueScripts
from shared.redis.reply import Reply, encode_reply
from shared.tracing import context_of
from worker.metrics import WorkerMetrics

logger = logging.getLogger(__name__)

Abandoned = asyncio.Future[None]
"""Of one job; done as soon as nobody waits for it any more."""
JobFunction = Callable[[str, Job, Abandoned], Awaitable[Reply]]
"""Takes a job's id and the job. Once the job is abandoned, it ends soon, with what was embedded."""

FINISH_AGAIN_S = (0.05, 0.2, 0.5)
"""Waits between tries to send a reply."""

MAX_TRIES = 4
"""A job that took its worker down this often is given up; its texts fail."""


class QueueWorker(Worker):
    """Runs one queue's jobs; a process runs one of these a lane over the same model."""

    def __init__(
        self,
        embed: JobFunction,
        *,
        redis: ArqRedis,
        fingerprint: str,
        lane: Lane,
        worker_id: str,
        slots: int,
        claim_most: int,
        completion_wait_s: int,
        metrics: WorkerMetrics | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        async def run(_ctx: dict[Any, Any], *_args: Any, **_kwargs: Any) -> None:
            """Registered because arq's worker must know a function; `run_claimed` runs the jobs."""

        super().__init__(
            [func(cast(WorkerCoroutine, run), name=FUNCTION)],
            queue_name=redis_keys.queue(fingerprint, lane),
            redis_pool=redis,
            handle_signals=False,  # one process holds two of these; it passes signals on
            job_completion_wait=completion_wait_s,
            max_jobs=slots,
            poll_delay=0,
            keep_result=0,
            health_check_interval=2,
            health_check_key=redis_keys.worker_health(fingerprint, worker_id, lane),
            log_results=False,
            job_serializer=redis.job_serializer,
            job_deserializer=redis.job_deserializer,
        )
        self._embed = embed
        self._tracer = tracer or NoOpTracer()
        metrics = metrics or WorkerMetrics()
        self._lane = lane
        self._queue_wait = metrics.queue_wait.labels(lane)
        self._texts = metrics.texts
        """Of those that never come to the batcher, which counts the others."""
        self._claim_most = claim_most
        self._worker_id = worker_id
        self._workers_key = redis_keys.workers(fingerprint)
        self._scripts = QueueScripts(redis, fingerprint, lane)
        self._slot_freed = asyncio.Event()
        self._abandoned: dict[str, Abandoned] = {}
        """Of each job in progress."""
        self._more = True
        """Whether to look for jobs at once, and not wait for a wake token."""

    async def main(self) -> None:
        renewing = asyncio.create_task(self._keep_renewing())
        try:
            # Not arq's own: it asks Redis for its version first, and dies if Redis is away in just that moment.
            while True:
                await self._poll_iteration()
                await asyncio.sleep(0)
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
        self._slot_freed.clear()
        for job_id in [job_id for job_id, task in self.tasks.items() if task.done()]:
            self._abandoned.pop(job_id)
            self.tasks.pop(job_id).result()
        try:
            await self.heart_beat()
            free = self.max_jobs - len(self.tasks)
            if not self.allow_pick_jobs or free == 0:
                await self._wait_for_slot()
            else:
                await self._claim(min(free, self._claim_most))
        except (RedisError, OSError) as error:
            logger.warning("Redis is away, trying again: %s", error)
            await asyncio.sleep(0.2)

    async def _wait_for_slot(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BLOCK_S):
                await self._slot_freed.wait()

    async def _claim(self, most: int) -> None:
        """Wait for a job unless there may be one already, and claim what is there."""
        token = None
        if not self._more:
            token = await blocking_pop(self.pool, self._scripts.wake)
        claimed = await self._scripts.claim(self._worker_id, most, woken=token is not None)
        # Several at once are a busy queue, where the next have come meanwhile; one alone was the last.
        self._more = len(claimed) == most or len(claimed) > 1
        for job in claimed:
            if job.job_id in self.tasks:  # our own lease ran out, yet we still work on it
                await self.pool.decr(redis_keys.TRIES_PREFIX + job.job_id)  # so this was no death
                continue
            task = asyncio.create_task(self.run_claimed(job))
            task.add_done_callback(lambda _: self._slot_freed.set())
            self.tasks[job.job_id] = task
            self._abandoned[job.job_id] = asyncio.get_running_loop().create_future()

    async def run_claimed(self, claimed: Claimed) -> None:
        """Run one job and send its reply; a job that cannot be finished goes back to the queue."""
        job_id, digests = claimed.job_id, list[str]()
        try:
            if not claimed.body or claimed.given_up:
                self._texts.labels(self._lane, "dropped").inc(claimed.texts)
                await self._finish(Reply.of(job_id, {}, {}, cached=False), digests)
                return
            body = decode_body(claimed.body)
            self._queue_wait.observe((claimed.at_ms - body.queued_ms) / 1000)
            digests = body.job.digests
            if claimed.tries > MAX_TRIES:
                self._texts.labels(self._lane, "failed").inc(claimed.texts)
                await self._finish(_failed(job_id, digests, "workers died on the batch with this text"), digests)
                return
            await self._finish(await self._traced(job_id, body.job), digests)
            self.jobs_complete += 1
        except asyncio.CancelledError:
            await asyncio.shield(self._give_back(job_id))
            self.jobs_retried += 1
        except (RedisError, OSError) as error:
            logger.warning("job %s could not be finished and will run again: %s", job_id, error)
            await self._give_back(job_id)
        except ModelBroken:
            await self._give_back(job_id)
        except Exception:
            self.jobs_failed += 1
            logger.exception("job %s failed", job_id)
            self._texts.labels(self._lane, "failed").inc(claimed.texts)
            with contextlib.suppress(RedisError, OSError):
                await self._finish(_failed(job_id, digests, "the worker failed on this text"), digests)

    async def _traced(self, job_id: str, job: Job) -> Reply:
        parent, attributes = context_of(job.trace), {"texts": len(job.texts)}
        with self._tracer.start_as_current_span("job", parent, SpanKind.CONSUMER, attributes):
            return await self._embed(job_id, job, self._abandoned[job_id])

    async def _finish(self, reply: Reply, digests: list[str]) -> None:
        """Send the reply for a job of these digests."""
        cached = reply.digests if reply.cached else []
        others = sorted(set(digests) - set(cached))
        encoded = encode_reply(reply)
        for wait_s in FINISH_AGAIN_S:
            try:
                await self._scripts.finish(reply.job_id, encoded, cached, others)
                return
            except (RedisError, OSError):  # what was computed is worth more than one connection
                await asyncio.sleep(wait_s)
        await self._scripts.finish(reply.job_id, encoded, cached, others)

    async def _give_back(self, job_id: str) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._scripts.give_back(job_id, self._worker_id)

    async def _keep_renewing(self) -> None:
        while True:
            running = [job_id for job_id, task in self.tasks.items() if not task.done()]
            if running:  # an idle worker claims every half second, which is its sign of life
                with contextlib.suppress(RedisError, OSError):
                    await self._renew(running)
            stop_if_cancelled()
            await asyncio.sleep(redis_keys.RENEW_MS / 1000)

    async def _renew(self, running: list[str]) -> None:
        for job_id in await self._scripts.renew(self._worker_id, running):
            abandoned = self._abandoned.get(job_id)
            if abandoned and not abandoned.done():
                abandoned.set_result(None)


def _failed(job_id: str, digests: list[str], sentence: str) -> Reply:
    return Reply.of(job_id, {}, dict.fromkeys(digests, sentence), cached=False)
