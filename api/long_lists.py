"""Long lists take turns, and few may wait: looking up and queueing thousands of texts keeps the event loop busy."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import LONGEST_RETRY_S, Overloaded

LONG = 128
"""Texts; what is shorter never waits."""
AT_ONCE = 2
"""While one waits for Redis, the other one computes."""
MOST_WAITING = 16
LATEST_WEIGHT = 0.2


class LongLists:
    """The turns of one API process."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._turn_s = 0.05
        """How long a turn takes, averaged over the latest."""
        self._promised = 0.0
        """When the last one of those who were refused was told to come again, by `time.monotonic`."""

    def require_room(self) -> None:
        """
        Raises:
            Overloaded: too many lists wait already.
        """
        if self._waiting >= MOST_WAITING:
            now, each = time.monotonic(), self._turn_s / AT_ONCE
            # One after the other, or they would all come at once, and again in vain.
            self._promised = min(max(now + self._waiting * each, self._promised + each), now + LONGEST_RETRY_S)
            wait_s = math.ceil(self._promised - now)
            raise Overloaded(
                f"Too many long lists of new premises wait; try again in {wait_s} s.", wait_s, "long_lists"
            )

    @asynccontextmanager
    async def turn(self, texts: int) -> AsyncIterator[None]:
        """A block in which so many texts are looked up and queued.

        Raises:
            Overloaded: as `require_room`.
        """
        if texts <= LONG:
            yield
            return
        self.require_room()
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        start = time.monotonic()
        try:
            yield
        finally:
            self._turns.release()
            self._turn_s += LATEST_WEIGHT * (time.monotonic() - start - self._turn_s)
