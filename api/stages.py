"""How long each stage of one request took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Some stages overlap: the sum may be more than the request took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        """By stage, in the order in which they ended."""

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """A block that is part of the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def server_timing(self) -> str:
        """The `Server-Timing` header: milliseconds. Source: W3C Server Timing."""
        return ", ".join(f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in self.seconds.items())
