"""The threads in which searches run: one a CPU, and a bounded number of searches that wait for them.

Searches that wait for the same index run several at a time: each block of premises is then read from memory once for
all of them. A search that comes alone does not wait for others.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

import faiss

from api.search.index import Hits, Search
from api.search.segments import SegmentedIndex
from shared.cpus import usable_cpus
from shared.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

TOGETHER = 16
"""Searches of one pass at most; more save no more time, and the first would wait for the last."""
WAITING_PER_THREAD = 64
"""At some ten milliseconds a search, about what a client waits for without noticing."""

_Waiting = deque[tuple[Search, Future[Hits]]]


class SearchThreads:
    """Searches any number of indices. FAISS releases Python's lock while it searches, so threads share the CPUs."""

    def __init__(self) -> None:
        self.count = usable_cpus()
        """Threads."""
        # Searches run side by side; splitting one over OpenMP's threads gains little. The setting is one a thread.
        self._executor = ThreadPoolExecutor(self.count, "search", faiss.omp_set_num_threads, (1,))
        self._lock = Lock()
        self._waiting: dict[SegmentedIndex, _Waiting] = {}
        """Searches of each index, the index whose turn is next first. Guarded by the lock."""
        self._running = 0

    async def search(self, index: SegmentedIndex, search: Search) -> Hits:
        """The index's answer.

        Raises:
            Overloaded: too many wait already.
        """
        if self._running >= self.count * (1 + WAITING_PER_THREAD):
            raise Overloaded("More searches wait than this process can soon do; try again.", 1, "searches")
        hits: Future[Hits] = Future()
        self._running += 1
        try:
            with self._lock:
                self._waiting.setdefault(index, deque()).append((search, hits))
            self._executor.submit(self._take)
            return await asyncio.wrap_future(hits)
        finally:
            self._running -= 1

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a call, made in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, partial(call, *args, **kwargs))

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _take(self) -> None:
        """Answer a share of what waits. Runs in a thread, once a search; mostly its search is done already."""
        with self._lock:
            if not self._waiting:
                return
            share = min(TOGETHER, -(-sum(map(len, self._waiting.values())) // self.count))
            index = next(iter(self._waiting))
            waiting = self._waiting.pop(index)
            taken: list[tuple[Search, Future[Hits]]] = []
            while waiting and len(taken) < share:
                search, hits = waiting.popleft()
                if hits.set_running_or_notify_cancel():  # False if the client is gone
                    taken.append((search, hits))
            if waiting:
                self._waiting[index] = waiting  # behind the others, so that no index waits for ever
        _answer(index, taken)


def _answer(index: SegmentedIndex, taken: list[tuple[Search, Future[Hits]]]) -> None:
    try:
        answers = index.search([search for search, _ in taken])
    except Exception as error:  # it reaches every waiting client, so that none waits for ever
        for _, hits in taken:
            hits.set_exception(error)
        return
    for (_, hits), answer in zip(taken, answers, strict=True):
        hits.set_result(answer)
