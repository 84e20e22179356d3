"""`make bench-queue`: what the queue itself costs, next to arq as it comes.

The job is trivial (it echoes one fixed vector), so all that is measured is enqueue, wake-up, claim and reply between
two processes over a real Redis on loopback. The peer is arq's own `enqueue_job` / `Job.result` / `Worker`, same
Redis, same serializer.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import uvloop
from arq.jobs import Job as StockJob
from arq.typing import WorkerCoroutine
from arq.worker import Worker, func
from rich.console import Console

from api.embedding.embedder import Embedder
from api.embedding.queue import EmbeddingQueue, Terms
from shared.deadline import Deadline
from shared.model.text import text_digest
from shared.redis.client import connect, disconnect
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.job import Job
from shared.redis.keys import Lane
from shared.redis.reply import Reply
from shared.vectors import Vectors
from tests.support.report import p50_p99, print_machine, table
from tests.support.servers import redis_server, running
from worker.queue_worker import Abandoned, QueueWorker

FINGERPRINT = "bench@1:float32"
DIMENSION = 768
TTL_S = 60.0
VECTOR: Vectors = np.full(DIMENSION, DIMENSION**-0.5, np.float32)

ROUND_TRIPS = 1_000
STOCK_ROUND_TRIPS = 12
BURST = 6_000
IN_FLIGHT = 64
BULK_WAITING = 1_500
IDLE_S = 10.0


async def trivial(job_id: str, job: Job, _abandoned: Abandoned) -> Reply:
    if job.texts and job.texts[0].startswith("bulk"):
        await asyncio.sleep(0.01)  # a batch's worth of another thread's time
    return Reply.of(job_id, dict.fromkeys(job.digests, VECTOR), {}, cached=False)


async def run_worker(url: str) -> None:
    """Both queues in one process, as the real worker has them."""
    queues: tuple[tuple[Lane, int, int], ...] = (("interactive", IN_FLIGHT, IN_FLIGHT), ("bulk", 4, 1))
    workers = [
        QueueWorker(
            trivial,
            redis=connect(url),
            fingerprint=FINGERPRINT,
            lane=lane,
            worker_id="bench",
            slots=slots,
            claim_most=claim_most,
            completion_wait_s=1,
        )
        for lane, slots, claim_most in queues
    ]
    await asyncio.gather(*(worker.async_run() for worker in workers))


async def run_stock_worker(url: str) -> None:
    async def echo(_ctx: dict[object, object]) -> bytes:
        return VECTOR.tobytes()

    redis = connect(url)
    worker = Worker(
        [func(cast(WorkerCoroutine, echo), name="echo")],
        queue_name="stock",
        redis_pool=redis,
        handle_signals=False,
        max_jobs=IN_FLIGHT,
        log_results=False,
        job_serializer=redis.job_serializer,
        job_deserializer=redis.job_deserializer,
    )
    await worker.async_run()


async def measure(url: str, worker: psutil.Process, console: Console) -> None:
    redis = connect(url)
    queue = EmbeddingQueue(redis, FINGERPRINT, 1_000_000)
    cache = EmbeddingCache(redis, FINGERPRINT, DIMENSION)
    rows: list[tuple[object, ...]] = []
    async with Embedder(queue, cache, dimension=DIMENSION, near_entries=1, chunk_tokens=1) as embedder:

        async def ours(text: str) -> None:
            await embedder.embed([text], "interactive", TTL_S, Deadline.after(60))

        async def stock(_text: str) -> None:
            job = await redis.enqueue_job("echo", _queue_name="stock")
            assert isinstance(job, StockJob)
            await job.result(timeout=60)

        while not await queue.workers_alive():
            await asyncio.sleep(0.1)
        await ours("warm up")
        await stock("warm up")
        idle = await idle_cpu(worker)
        async with bare(EmbeddingQueue(redis, FINGERPRINT, 1_000_000)) as alone:
            rows.append(("idle: enqueue, job, reply", *p50_p99(await one_by_one(alone, "bare", ROUND_TRIPS)), ""))
        rows.append(("idle, after a look in the cache", *p50_p99(await one_by_one(ours, "idle", ROUND_TRIPS)), ""))
        rows.append(("arq as it comes", *p50_p99(await one_by_one(stock, "stock", STOCK_ROUND_TRIPS)), ""))
        rate = await burst(ours, "burst", BURST)
        rows.append((f"{IN_FLIGHT} waiting", "", "", rate))
        stock_rate = await burst(stock, "stock burst", IN_FLIGHT * 6)
        rows.append((f"{IN_FLIGHT} waiting, arq as it comes", "", "", stock_rate))
        bulk = asyncio.create_task(
            embedder.embed([f"bulk {i}" for i in range(BULK_WAITING)], "bulk", TTL_S, Deadline.after(600))
        )
        await asyncio.sleep(0.5)
        behind = p50_p99(await one_by_one(ours, "behind", 200))
        rows.append((f"{BULK_WAITING} bulk jobs waiting", *behind, ""))
        bulk.cancel()
        await asyncio.gather(bulk, return_exceptions=True)
    console.print(table("Queue, trivial job", ("", "p50 ms", "p99 ms", "jobs/s"), rows))
    console.print(f"Idle worker CPU: {idle:.2f} %   jobs/s against arq as it comes: {rate / stock_rate:.1f}x")
    await disconnect(redis)


@asynccontextmanager
async def bare(queue: EmbeddingQueue) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """A call that submits one text and waits for its reply."""
    arrived: dict[str, asyncio.Event] = {}

    async def listen() -> None:
        while True:
            async for reply in queue.replies():
                arrived.setdefault(reply.job_id, asyncio.Event()).set()

    async def call(text: str) -> None:
        (job_id,) = (
            await queue.submit({text_digest(text): text}, Terms("interactive", TTL_S, Deadline.after(60)))
        ).jobs.values()
        await arrived.setdefault(job_id, asyncio.Event()).wait()
        del arrived[job_id]

    listening = asyncio.create_task(listen())
    yield call
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def one_by_one(call: Callable[[str], Awaitable[None]], name: str, times: int) -> list[float]:
    took = []
    for i in range(times):
        await asyncio.sleep(0.002)  # an idle system, not a busy one
        start = time.perf_counter()
        await call(f"{name} {i}")
        took.append(1000 * (time.perf_counter() - start))
    return took


async def burst(call: Callable[[str], Awaitable[None]], name: str, jobs: int) -> float:
    """Jobs per second with `IN_FLIGHT` waiting at any time."""
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(i: int) -> None:
        async with slots:
            await call(f"{name} {i}")

    start = time.perf_counter()
    await asyncio.gather(*(one(i) for i in range(jobs)))
    return jobs / (time.perf_counter() - start)


async def idle_cpu(worker: psutil.Process) -> float:
    """Per cent of one core that the worker process uses while nothing is queued."""
    before = worker.cpu_times()
    await asyncio.sleep(IDLE_S)
    after = worker.cpu_times()
    return 100 * (after.user + after.system - before.user - before.system) / IDLE_S


def main() -> None:
    console = Console(width=110)
    print_machine(console, "arq", "redis", "uvloop")
    module = [sys.executable, "-m", "benchmarks.queue"]
    with (
        tempfile.TemporaryDirectory() as directory,
        redis_server(Path(directory)) as redis,
        running([*module, "worker", redis.url]) as ours,
        running([*module, "stock", redis.url]),
    ):
        uvloop.run(measure(redis.url, psutil.Process(ours.pid), console))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker", url]:
            uvloop.run(run_worker(url))
        case ["stock", url]:
            uvloop.run(run_stock_worker(url))
        case _:
            main()
