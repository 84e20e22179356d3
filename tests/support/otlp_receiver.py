"""Takes traces over OTLP/HTTP on loopback and keeps their spans."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver:
    endpoint: str
    spans: list[tuple[str, Span]] = field(default_factory=list)
    """Each with the name of the service that sent it."""

    close: Callable[[], None] = lambda: None
    """From then on nobody listens."""


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                receiver.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def close() -> None:
        server.shutdown()
        thread.join()
        server.server_close()

    receiver = Receiver(f"http://127.0.0.1:{server.server_port}", close=close)
    try:
        yield receiver
    finally:
        close()
