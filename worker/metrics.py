"""Counters and timings of one worker process, served for Prometheus on a port of their own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from shared.listen import bare_host, bind_errors
from shared.redis.keys import LANES

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
TOKENS_BUCKETS = (64, 256, 1_024, 4_096, 16_384, 65_536, 262_144)


class WorkerMetrics:
    """A registry of its own: several workers can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.texts = Counter(
            "premise_worker_texts",
            "Texts taken from the queue: embedded, failed, or dropped because nobody waits any more",
            ("lane", "outcome"),
            registry=self.registry,
        )
        for lane in LANES:
            for outcome in ("embedded", "failed", "dropped"):
                self.texts.labels(lane, outcome)
        self.tokens = Counter("premise_worker_tokens", "Tokens of the texts in batches", registry=self.registry)
        self.computed_tokens = Counter(
            "premise_worker_computed_tokens",
            "The same with padding; what this has more is the padding share",
            registry=self.registry,
        )
        self.queue_wait = Histogram(
            "premise_worker_queue_wait_seconds",
            "From queueing a job to a worker taking it",
            ("lane",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        for lane in LANES:
            self.queue_wait.labels(lane)
        self.batch_seconds = Histogram(
            "premise_worker_batch_seconds",
            "Time of one batch in the model",
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.batch_tokens = Histogram(
            "premise_worker_batch_tokens",
            "Tokens computed in one batch",
            buckets=TOKENS_BUCKETS,
            registry=self.registry,
        )
        self.batches_split = Counter(
            "premise_worker_batches_split", "Batches that failed and were tried in halves", registry=self.registry
        )
        self.token_budget = Gauge(
            "premise_worker_token_budget", "Most tokens of a batch; less than set after the device ran out of memory",
            registry=self.registry,
        )  # fmt: skip

    @property
    def tokens_computed(self) -> int:
        """Since the start, without padding."""
        return int(self.registry.get_sample_value("premise_worker_tokens_total") or 0)

    @property
    def texts_embedded(self) -> int:
        """Since the start."""
        counts = [
            self.registry.get_sample_value("premise_worker_texts_total", {"lane": lane, "outcome": "embedded"})
            for lane in LANES
        ]
        return int(sum(count or 0 for count in counts))

    def serve(self, host: str, port: int) -> None:
        """Answer `/metrics` from a thread until the process ends.

        Raises:
            StartupError: the port cannot be used.
        """
        with bind_errors(host, port, "HOST, WORKER_METRICS_PORT"):
            start_http_server(port, bare_host(host), self.registry)
