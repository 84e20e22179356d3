"""Long lists take turns, and few may wait: looking up and queueing thousands of texts keeps the event loop busy.

One has its turn at a time: it knows what room in the queue the one before it took.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import LONGEST_RETRY_S, Overloaded, Unavailable

LONG = 128
"""Texts; what is shorter never waits."""
MOST_WAITING = 16
LATEST_WEIGHT = 0.2


class LongLists:
    """The turns of one API process."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._turn_s = 0.05
        """How long a turn takes, averaged over the latest."""
        self._promised = 0.0
        """When the last one of those who were refused was told to come again, by `time.monotonic`."""
        self._failed = (0.0, "")
        """When somebody last learned in a turn that nothing can be embedded, and why."""

    def told(self, wait_s: float) -> None:
        """The queue has no room for a list until then; who is refused here need not come before."""
        self._promised = max(self._promised, time.monotonic() + wait_s)

    def _require_room(self) -> None:
        if self._waiting >= MOST_WAITING:
            now, each = time.monotonic(), self._turn_s
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
            Overloaded: too many lists wait already.
            Unavailable: it was for one before, who may have waited long enough for both.
        """
        if texts <= LONG:
            yield
            return
        self._require_room()
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
