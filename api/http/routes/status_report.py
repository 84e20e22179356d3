"""The state of a release and of its workers, queues and caches, as far as Redis and this API process know it."""

import os

import msgspec
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from api.embedding.queue import QueueState
from api.serving.catalog import Served
from api.serving.release import Release
from api.telemetry.metrics import Metrics
from shared.supervisor import read_reports


async def queue_state(served: Served) -> QueueState | None:
    """Nothing while Redis is away, or before the model is known."""
    if served.backend is None:
        return None
    try:
        return await served.backend.queue.state()
    except (RedisError, OSError):
        return None


def problems(served: Served, queue: QueueState | None) -> list[str]:
    """The reasons why requests that need an embedding would fail now, one sentence each."""
    if not isinstance(served.state, Release):
        return [served.state.sentence]
    if queue is None:
        return ["The queue's Redis (REDIS_URL) cannot be reached."]
    return [] if queue.alive else [f"No worker for {served.state.backend.fingerprint} is alive."]


async def status_report(served: Served, metrics: Metrics, version: str) -> bytes:
    """JSON for `/status`; what is not known yet is null or empty."""
    queue = await queue_state(served)
    reasons = problems(served, queue)
    release = served.state if isinstance(served.state, Release) else None
    corpus = release.retriever.corpus if release else None
    return msgspec.json.encode(
        {
            "ready": not reasons,
            "reasons": reasons,
            "version": version,
            "model": served.backend.fingerprint if served.backend else "",
            "revision": release.revision if release else "",
            "premises": len(corpus) if corpus else None,
            "modules": len(corpus.module_names) if corpus else None,
            "workers": queue.workers if queue else [],
            "queue": queue.texts if queue else {},
            "texts": metrics.texts(),
            "processes": read_reports(os.environ),
        }
    )


def queue_gauges(queue: QueueState) -> list[Metric]:
    """Metrics that every API process would tell alike."""
    texts = GaugeMetricFamily("premise_queue_texts", "Texts waiting for workers or in progress", labels=["lane"])
    for lane, count in queue.texts.items():
        texts.add_metric([lane], count)
    return [texts, GaugeMetricFamily("premise_workers_alive", "Workers of this model", value=queue.alive)]
