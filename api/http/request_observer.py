"""ASGI middleware that sees every request to its end: metrics, a line in the log, a trace."""

import logging
import time

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.request_record import HEADER, RequestRecord
from api.telemetry.metrics import Metrics
from shared.tracing import context_of

logger = logging.getLogger(__name__)

WATCHED = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/status"})
"""Asked every few seconds by machines: no lines at the default level, and no traces."""


class Observed:
    """The outermost middleware of ours: what the others refuse is seen too."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer) -> None:
        self._app = app
        self._metrics = metrics
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = RequestRecord.begin(scope)
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = record.id
            try:
                await send(message)
            except RuntimeError as error:
                # Garbage behind a pipelined request: uvicorn has closed the connection, and uvloop says so in this way.
                if "handler is closed" not in str(error):
                    raise

        parent = context_of(Headers(scope=scope).get("traceparent", ""))
        with self._tracer.start_as_current_span("request", parent, SpanKind.SERVER, end_on_exit=False) as span:
            try:
                await self._app(scope, receive, watched)
            finally:
                # Paths that no route answers share one label: clients could invent any number of them.
                route = getattr(scope.get("route"), "path", "other")
                seconds = time.perf_counter() - record.begun
                self._metrics.observe(route, status, seconds, record.stages)
                _log(scope["method"], route, status, seconds, record)
                if route not in WATCHED and span.is_recording():
                    self._end(span, f"{scope['method']} {route}", status, record)

    def _end(self, span: Span, name: str, status: int, record: RequestRecord) -> None:
        span.update_name(name)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.set_attributes({"http.response.status_code": status, "request.id": record.id, **record.counts})
        # What the stages measured, on the clock of traces.
        epoch = time.time() - time.perf_counter()
        for stage in record.stages.spans:
            child = self._tracer.start_span(
                stage.stage, set_span_in_context(span), start_time=int(1e9 * (epoch + stage.start))
            )
            child.end(int(1e9 * (epoch + stage.stop)))
        span.end()


def _log(method: str, route: str, status: int, seconds: float, record: RequestRecord) -> None:
    level = logging.DEBUG if route in WATCHED else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields = {
        "request": record.id,
        "method": method,
        "route": route,
        "status": status,
        "ms": round(1000 * seconds, 2),
        **record.counts,
        **{f"{stage}_ms": round(1000 * s, 2) for stage, s in record.stages.seconds().items()},
    }
    if record.detail:
        fields["detail"] = record.detail
    logger.log(level, "request", extra=fields)
