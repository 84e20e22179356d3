"""Long lists take turns, and few may wait: looking up and queueing thousands of texts keeps the event loop busy."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from shared.errors import LONGEST_RETRY_S, Overloaded

LONG = 128
"""Texts; what is shorter never waits."""
LOOKS_AT_ONCE, MOST_WAITING_TO_LOOK = 1, 16
"""One knows what the one before it was promised. It takes a few milliseconds."""
TURNS_AT_ONCE, MOST_WAITING = 2, 16
"""While one waits for Redis, the other one computes."""
LATEST_WEIGHT = 0.2


class LongLists:
    """The lines of one API process.

    A list is looked at first: whether there is room for it, judged by some of its texts. Then all of it has its turn.
    """

    def __init__(self) -> None:
        self._looks = _Line(LOOKS_AT_ONCE, MOST_WAITING_TO_LOOK)
        self._turns = _Line(TURNS_AT_ONCE, MOST_WAITING)
        self._promised = 0.0
        """When the last one of those who were refused was told to come again, by `time.monotonic`."""

    def require_room(self) -> None:
        """
        Raises:
            Overloaded: too many lists wait already.
        """
        for line in (self._looks, self._turns):
            if line.is_full():
                now = time.monotonic()
                # One after the other, or they would all come at once, and again in vain.
                self._promised = max(now + line.seconds(), self._promised + line.seconds_each())
                self._promised = min(self._promised, now + LONGEST_RETRY_S)
                wait_s = math.ceil(self._promised - now)
                raise Overloaded(
                    f"Too many long lists of new premises wait; try again in {wait_s} s.", wait_s, "long_lists"
                )

    def told(self, wait_s: float) -> None:
        """The queue has no room for a list until then; who is refused here need not come before."""
        self._promised = max(self._promised, time.monotonic() + wait_s)

    def look(self) -> AbstractAsyncContextManager[None]:
        """A block in which some texts of a long list are looked up and queued.

        Raises:
            Overloaded: as `require_room`.
        """
        self.require_room()
        return self._looks.turn()

    def turn(self, texts: int) -> AbstractAsyncContextManager[None]:
        """A block in which so many texts are looked up and queued.

        Raises:
            Overloaded: as `require_room`.
        """
        if texts <= LONG:
            return nullcontext()
        self.require_room()
        return self._turns.turn()


class _Line:
    def __init__(self, at_once: int, most_waiting: int) -> None:
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._turn_s = 0.05
        """How long a turn takes, averaged over the latest."""

    def is_full(self) -> bool:
        return self._waiting >= self._most_waiting

    def seconds(self) -> float:
        """Until those who wait had their turn."""
        return self._waiting * self.seconds_each()

    def seconds_each(self) -> float:
        return self._turn_s / self._at_once

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
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
