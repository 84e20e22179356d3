"""One worker process: the model, and a queue worker for each lane on top of it."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from uuid import uuid4

from shared.model.directory import ModelDirectory, open_model
from shared.model.spec import ModelSpec
from shared.redis.client import connect
from shared.redis.connections import Connections
from shared.redis.embedding_cache import EmbeddingCache
from shared.redis.keys import Lane
from shared.settings import Settings
from shared.tracing import tracer
from worker.batcher import Batcher
from worker.embed_job import EmbedJob
from worker.engine.encoder import Encoder, TorchEncoder
from worker.heartbeat import tell_status
from worker.metrics import WorkerMetrics
from worker.queue_worker import QueueWorker

logger = logging.getLogger(__name__)

INTERACTIVE_SLOTS = 64
"""Interactive jobs in progress in one worker, a state each as a rule; one batch takes them all."""
COMPLETION_WAIT_S = 30
"""How long a stopping worker finishes what it has claimed; far longer than a batch."""


async def run_worker(settings: Settings, load: Callable[[ModelDirectory, Settings], Encoder] = TorchEncoder) -> None:
    """Serve both queues until SIGTERM or SIGINT; running jobs are finished first.

    Raises:
        StartupError: model or Redis cannot be used.
    """
    async with Connections.of(settings.redis_url, settings.cache_url) as redis:
        await redis.require()
        await _serve(settings, redis, load)


async def _serve(settings: Settings, redis: Connections, load: Callable[[ModelDirectory, Settings], Encoder]) -> None:
    directory = await asyncio.to_thread(open_model, ModelSpec.of(settings), settings.data_dir, weights=True)
    encoder = await asyncio.to_thread(load, directory, settings)
    fingerprint = directory.fingerprint(settings.dtype)
    cache = EmbeddingCache(redis.cache, fingerprint, directory.dimension)
    worker_id = f"{socket.gethostname()}-{uuid4().hex[:8]}"
    metrics = WorkerMetrics()
    if settings.worker_metrics_port:
        metrics.serve(settings.host, settings.worker_metrics_port)
    async with Batcher(encoder, metrics, tracer(settings, "worker")) as batcher:
        workers = queue_workers(settings, batcher, cache, fingerprint, worker_id)
        logger.info("worker %s serves %s", worker_id, fingerprint)
        stop_on_signals(workers)
        running = [asyncio.create_task(worker.async_run()) for worker in workers]
        # A model that broke ends the process, its jobs given back: renewing leases over it would only hold them.
        watching = asyncio.create_task(batcher.broken())
        telling = asyncio.create_task(tell_status(redis.queue, fingerprint, worker_id, encoder.device_name, metrics))
        try:
            await asyncio.wait([watching, *running], return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, *running):
                if task.done() and not task.cancelled() and (error := task.exception()):
                    raise error
            await asyncio.wait(running)
        finally:
            for task in (watching, telling):
                task.cancel()
            await asyncio.gather(watching, telling, return_exceptions=True)
            for worker in workers:
                await worker.close()
    logger.info("worker %s stopped; %d texts embedded", worker_id, metrics.texts_embedded)


def queue_workers(
    settings: Settings, batcher: Batcher, cache: EmbeddingCache, fingerprint: str, worker_id: str
) -> list[QueueWorker]:
    """One a lane, all over the same model."""
    # Bulk slots: one batch in the model and the next one tokenised; the rest is for other workers.
    bulk_slots = 1 + -(-2 * batcher.encoder.batch_tokens // settings.chunk_tokens)
    # Chunks are claimed one at a time, so that those of one request spread over the workers that are free.
    queues: tuple[tuple[Lane, int, int], ...] = (
        ("interactive", INTERACTIVE_SLOTS, INTERACTIVE_SLOTS),
        ("bulk", bulk_slots, 1),
    )
    return [
        QueueWorker(
            EmbedJob(batcher, cache, lane),
            redis=connect(settings.redis_url),
            fingerprint=fingerprint,
            lane=lane,
            worker_id=worker_id,
            slots=slots,
            claim_most=claim_most,
            completion_wait_s=COMPLETION_WAIT_S,
            metrics=batcher.metrics,
            tracer=batcher.tracer,
        )
        for lane, slots, claim_most in queues
    ]


def stop_on_signals(workers: list[QueueWorker]) -> None:
    loop = asyncio.get_running_loop()

    def stop(signum: signal.Signals) -> None:
        for worker in workers:
            worker.handle_sig_wait_for_completion(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop, signum)
