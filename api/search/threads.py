"""The threads in which searches run: one a core, and a bounded number of searches that wait for them.

Searches that wait are taken several at a time: they read the same blocks of premises, which then come from memory once
for all of them. One that comes alone never waits for company.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from api.search.index import Hits, PremiseIndex, Search
from shared.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

TOGETHER = 16
"""Searches of one pass at most; more save no more time, and the first would wait for the last."""
WAITING_PER_THREAD = 64
"""At some ten milliseconds a search, about what a client waits for without noticing."""


class SearchThreads:
    """FAISS leaves Python's lock while it searches, so threads share the cores."""

    def __init__(self, index: PremiseIndex) -> None:
        self._index = index
        self.count = os.cpu_count() or 1
        """Threads."""
        self._executor = ThreadPoolExecutor(self.count, thread_name_prefix="search")
        self._waiting: deque[tuple[Search, Future[Hits]]] = deque()
        self._running = 0

    async def search(self, search: Search) -> Hits:
        """
        Raises:
            Overloaded: too many wait already.
        """
        if self._running >= self.count * (1 + WAITING_PER_THREAD):
            raise Overloaded("More searches wait than this process can soon do; try again.", 1, "searches")
        hits: Future[Hits] = Future()
        self._running += 1
        try:
            self._waiting.append((search, hits))
            self._executor.submit(self._take)
            return await asyncio.wrap_future(hits)
        finally:
            self._running -= 1

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What goes with a search: the result of the call, made in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _take(self) -> None:
        """In a thread: this one's share of what waits. Called once a search; most calls find their search done."""
        share = min(TOGETHER, -(-len(self._waiting) // self.count))
        taken: list[tuple[Search, Future[Hits]]] = []
        while len(taken) < share:
            try:
                search, hits = self._waiting.popleft()
            except IndexError:  # another thread was quicker
                break
            if hits.set_running_or_notify_cancel():  # whoever asked may be gone
                taken.append((search, hits))
        try:
            answers = self._index.search([search for search, _ in taken])
        except Exception as error:  # nobody may wait for ever
            for _, hits in taken:
                hits.set_exception(error)
            return
        for (_, hits), answer in zip(taken, answers, strict=True):
            hits.set_result(answer)
