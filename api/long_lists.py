"""Long lists take turns, and few may wait: looking up and queueing thousands of texts keeps the event loop busy."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import Overloaded

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

    def require_room(self) -> None:
        """
        Raises:
            Overloaded: too many lists wait already.
        """
        if self._waiting >= MOST_WAITING:
            wait_s = self._waiting * self._turn_s / AT_ONCE
            raise Overloaded(
                "Too many long lists of new premises wait; try again soon.", math.ceil(wait_s), "long_lists"
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
