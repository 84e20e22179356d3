"""What the whole system is doing now, as far as Redis and this API know: workers, queues, caches."""

import msgspec
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from api.embedding.queue import QueueState
from api.serving.catalog import Catalog
from api.telemetry.metrics import Metrics


async def system_status(catalog: Catalog, metrics: Metrics, version: str) -> bytes:
    """JSON for `/status`; what is not known yet is null or empty."""
    queue = await catalog.queue_state()
    problems = catalog.problems(queue)
    corpus = catalog.served.retriever.corpus if catalog.is_loaded else None
    return msgspec.json.encode(
        {
            "ready": not problems,
            "reasons": problems,
            "version": version,
            "model": catalog.fingerprint,
            "revision": catalog.revision,
            "premises": len(corpus) if corpus else None,
            "modules": len(corpus.module_names) if corpus else None,
            "workers": queue.workers if queue else [],
            "queue": queue.texts if queue else {},
            "texts": metrics.texts(),
        }
    )


def queue_gauges(queue: QueueState) -> list[Metric]:
    """Metrics that every API process would tell alike."""
    texts = GaugeMetricFamily("premise_queue_texts", "Texts waiting for workers or in progress", labels=["priority"])
    for priority, count in queue.texts.items():
        texts.add_metric([priority], count)
    return [texts, GaugeMetricFamily("premise_workers_alive", "Workers of this model", value=queue.alive)]
