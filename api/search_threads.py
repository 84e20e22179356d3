"""The threads in which searches run: about one a core, and a bounded number of searches waiting for them."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from shared.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

WAITING_PER_THREAD = 64
"""At some ten milliseconds a search, about what a client waits for without noticing."""


class SearchThreads:
    """FAISS leaves Python's lock while it searches, so threads share the cores."""

    def __init__(self) -> None:
        count = os.cpu_count() or 1
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="search")
        self._most = count * (1 + WAITING_PER_THREAD)
        self._running = 0

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of the call, made in one of the threads.

        Raises:
            Overloaded: too many wait already.
        """
        if self._running >= self._most:
            raise Overloaded("More searches wait than this process can soon do; try again.", retry_after=1)
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))
        finally:
            self._running -= 1

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
