"""Long lists take turns, and few may wait: looking up and queueing thousands of texts keeps the event loop busy.

Only one long list is looked up and queued at a time, so each sees how much room the previous one used.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.embedding.queue import EmbeddingQueue
from shared.errors import Overloaded, Unavailable
from shared.redis.keys import Lane

LONG = 128
"""Texts; what is shorter never waits."""
MOST_WAITING = 16
LATEST_WEIGHT = 0.2


class LongLists:
    """The turns of one API process."""

    def __init__(self, queue: EmbeddingQueue) -> None:
        self._queue = queue
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._turn_s = 0.05
        """How long a turn takes, averaged over the latest."""
        self._failed = (0.0, "")
        """When somebody last learned in a turn that nothing can be embedded, and why."""

    async def _require_room(self, lane: Lane) -> None:
        if self._waiting >= MOST_WAITING:
            wait_s = await self._queue.retry_after(lane, self._waiting * self._turn_s, self._turn_s)
            raise Overloaded(f"Too many long lists of texts wait; try again in {wait_s} s.", wait_s, "long_lists")

    @asynccontextmanager
    async def turn(self, texts: int, lane: Lane) -> AsyncIterator[None]:
        """A block in which so many texts are looked up and queued.

        Raises:
            Overloaded: too many lists wait already.
            Unavailable: it was for one before, who may have waited long enough for both.
        """
        if texts <= LONG:
            yield
            return
        await self._require_room(lane)
        self._waiting += 1
        came = time.monotonic()
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        start = time.monotonic()
        try:
            if self._failed[0] > came:
                raise Unavailable(self._failed[1])
            yield
        except Unavailable as error:
            self._failed = (time.monotonic(), str(error))
            raise
        finally:
            self._turn.release()
            self._turn_s += LATEST_WEIGHT * (time.monotonic() - start - self._turn_s)
