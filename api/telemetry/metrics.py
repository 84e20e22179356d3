"""Counters and timings of the API, for `/metrics`.

With several API processes a scrape reaches any one of them; prometheus_client then keeps the numbers in files that all
processes of one parent share, and any one can tell the sum.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from api.telemetry.stages import Stages
from shared.errors import Full
from shared.redis.keys import LANES, Lane

METRICS = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable: the folder through which several API processes sum up their metrics."""
Source = Literal["list", "near", "redis", "joined", "queued"]
"""Where a text's embedding came from: a remembered list of new premises, the near cache, the Redis cache, a job that
embedded it already for another request, or a job of its own."""
SOURCES: tuple[Source, ...] = ("list", "near", "redis", "joined", "queued")

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.5)
LAG_EVERY_S = 0.02


class Metrics:
    """A registry of its own: several applications can live in one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        if METRICS not in os.environ:
            ProcessCollector(registry=registry)
        self._requests = Histogram(
            "premise_request_seconds",
            "Time to answer a request",
            ("route", "status"),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._stages = Histogram(
            "premise_stage_seconds",
            "Time of one stage of a request for premises; some stages overlap or are part of another",
            ("stage",),
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._loop_lag = Histogram(
            "premise_event_loop_lag_seconds",
            "How late the event loop wakes a task: what a request waits because others are served",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self._texts = self._counter(
            "premise_texts",
            "Texts whose embedding was asked for, by where it came from; all but queued are cache hits",
            lane=LANES,
            source=SOURCES,
        )
        self.refused = self._counter(
            "premise_refused", "Requests answered with 429, by what was full", reason=get_args(Full)
        )
        self.searches = self._counter(
            "premise_searches",
            "Searches, by what proved their answer: the first scan, or blocks read again",
            proof=("bound", "widened"),
        )
        self.truncated = self._counter("premise_answers_truncated", "Answers cut to what a Lean client can read")
        self.dropped = self._counter("premise_new_premises_dropped", "New premises beyond MAX_NEW_PREMISES, not ranked")

    def observe(self, route: str, status: int, seconds: float, stages: Stages) -> None:
        self._requests.labels(route, str(status)).observe(seconds)
        for stage, stage_seconds in stages.seconds().items():
            self._stages.labels(stage).observe(stage_seconds)

    def stage(self, stage: str) -> AbstractContextManager[object]:
        """Times a part of a stage that requests may share."""
        return self._stages.labels(stage).time()

    def count_texts(self, lane: Lane, source: Source, count: int) -> None:
        self._texts.labels(lane, source).inc(count)

    def texts(self) -> dict[Source, int]:
        """Texts asked for since the start, over all processes."""
        samples = [
            s for family in self._collected().collect() if family.name == "premise_texts" for s in family.samples
        ]
        return {
            source: int(sum(s.value for s in samples if s.name.endswith("_total") and s.labels["source"] == source))
            for source in SOURCES
        }

    async def watch_loop(self) -> None:
        """Observe the event loop's lag until cancelled."""
        while True:
            due = time.perf_counter() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._loop_lag.observe(max(0.0, time.perf_counter() - due))

    def exposition(self, gauges: Sequence[Metric]) -> bytes:
        """Every metric in Prometheus' text format; `gauges` are those that only Redis knows."""
        now = CollectorRegistry()
        now.register(_Known(gauges))
        return generate_latest(self._collected()) + generate_latest(now)

    def _counter(self, name: str, text: str, **labels: Sequence[str]) -> Counter:
        """A counter that is 0 for every value of its labels from the start."""
        counter = Counter(name, text, tuple(labels), registry=self._registry)
        for values in product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter

    def _collected(self) -> CollectorRegistry:
        if METRICS not in os.environ:
            return self._registry
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # the library's gap
        return together


@dataclass(frozen=True, eq=False)
class _Known(Collector):
    metrics: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.metrics
