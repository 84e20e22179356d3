"""Counters and timings of one API process, for `/metrics`."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.stages import Stages

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.5)
LAG_EVERY_S = 0.02


class Metrics:
    """A registry of its own: several applications can live in one process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Histogram(
            "premise_request_seconds",
            "Time to answer a request",
            ("route", "status"),
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )

        self._stages = Histogram(
            "premise_stage_seconds",
            "Time of one stage of a request for premises; some stages overlap",
            ("stage",),
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._loop_lag = Histogram(
            "premise_event_loop_lag_seconds",
            "How late the event loop wakes a task: what a request waits because others are served",
            buckets=LAG_BUCKETS,
            registry=self._registry,
        )

    def observe(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).observe(seconds)

    def observe_stages(self, stages: Stages) -> None:
        for stage, seconds in stages.seconds.items():
            self._stages.labels(stage).observe(seconds)

    async def watch_loop(self) -> None:
        """Observe the event loop's lag until cancelled."""
        while True:
            due = time.perf_counter() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._loop_lag.observe(max(0.0, time.perf_counter() - due))

    def exposition(self) -> bytes:
        """Every metric in Prometheus' text format."""
        return generate_latest(self._registry)


class Timed:
    """ASGI middleware that observes every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                await send(message)
            except RuntimeError as error:
                # Garbage behind a pipelined request: uvicorn has closed the connection, and uvloop says so in this way.
                if "handler is closed" not in str(error):
                    raise

        try:
            await self._app(scope, receive, watched)
        finally:
            # Paths that no route answers share one label: clients could invent any number of them.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(route, status, time.perf_counter() - start)
