"""How long each stage of one request took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """One stretch of a stage; times as of `time.perf_counter`."""

    stage: str
    start: float
    stop: float


class Stages:
    """Some stages overlap: the sum may be more than the request took."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        """In the order in which they ended."""

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """A block that is part of the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spans.append(Span(stage, start, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """By stage."""
        seconds: dict[str, float] = {}
        for span in self.spans:
            seconds[span.stage] = seconds.get(span.stage, 0.0) + span.stop - span.start
        return seconds

    def server_timing(self) -> str:
        """The `Server-Timing` header: milliseconds. Source: W3C Server Timing."""
        return ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in self.seconds().items())
