"""What is known of one request once it is answered: for the log, the metrics and the trace. Never what it said."""

import re
import time
from dataclasses import dataclass, field
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from api.telemetry.stages import Stages
from shared.deadline import Deadline

HEADER = "X-Request-ID"
SAFE_ID = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
"""What a client or proxy may call a request; anything else could forge log lines."""


@dataclass
class RequestRecord:
    """Filled by whoever serves the request."""

    id: str
    begun: float = field(default_factory=time.perf_counter)
    """As of `time.perf_counter`."""
    stages: Stages = field(default_factory=Stages)
    counts: dict[str, int] = field(default_factory=dict)
    detail: str = ""
    """The sentence it was refused with."""

    def deadline(self, most_s: float) -> Deadline:
        """The deadline of a request that may take `most_s` seconds from its beginning."""
        return Deadline.after(self.begun + most_s - time.perf_counter())

    @classmethod
    def begin(cls, scope: Scope) -> "RequestRecord":
        """A record that `record_of` finds; keeps the id that the client or a proxy gave."""
        given = Headers(scope=scope).get(HEADER, "")
        record = cls(given if SAFE_ID.fullmatch(given) else uuid4().hex[:16])
        scope.setdefault("state", {})["record"] = record
        return record


def record_of(request: HTTPConnection) -> RequestRecord:
    record: RequestRecord = request.state.record
    return record
