"""OpenTelemetry traces, request -> job -> batch, where OTEL_EXPORTER_OTLP_ENDPOINT says where to send them; else none.

A job carries the W3C `traceparent` of the request that queued it; those that join the job later are not in its trace.
"""

from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracer, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from shared.settings import Settings


def tracer(settings: Settings, role: str) -> Tracer:
    """Sends spans from a thread of its own, some seconds later; a receiver that is away costs log lines only."""
    endpoint = settings.otel_exporter_otlp_endpoint
    if not endpoint:
        return NoOpTracer()
    # Imported only where it is used: a tenth of a second at the start of every process.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: f"lean-premise-{role}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    return provider.get_tracer("lean-premise-server")


def traceparent() -> str:
    """Of the span that is current here; empty if there is none."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")


def context_of(parent: str) -> Context | None:
    """Where spans belong that a `traceparent` of another process began."""
    return TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
