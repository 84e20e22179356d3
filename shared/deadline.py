"""A deadline: one absolute time, handed on from the HTTP route to the queue."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Deadline:
    """A moment on the monotonic clock of this process. Another process or Redis is told the seconds that are left."""

    at: float
    """Seconds of `time.monotonic`."""

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """The deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def left(self) -> float:
        """Seconds until the deadline, 0 once it has passed."""
        return max(0.0, self.at - time.monotonic())

    def later(self, seconds: float) -> "Deadline":
        """A deadline that many seconds after this one."""
        return Deadline(self.at + seconds)

    def timeout(self) -> asyncio.Timeout:
        """A block, for `async with`, that raises TimeoutError at the deadline."""
        # Not `timeout_at`: the event loop's clock need not be `time.monotonic`.
        return asyncio.timeout(self.left())
