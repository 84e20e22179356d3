"""Searches that wait are answered together, in bounded number, and only for those who still ask."""

import asyncio
from collections.abc import Sequence
from threading import Event

import faiss
import numpy as np
import pytest

from api.search.index import Hits, PremiseIndex, Search
from api.search.premise_set import PremiseSet
from api.search.quantised_index import QuantisedIndex, quantise
from api.search.threads import TOGETHER, WAITING_PER_THREAD, SearchThreads
from shared.errors import Overloaded

pytestmark = pytest.mark.anyio

ROWS = np.eye(64, dtype=np.float32)
EVERYTHING = PremiseSet.of(np.ones(64, np.bool_))


class HeldIndex(PremiseIndex):
    """Searches when it is let go, and notes how many came together."""

    def __init__(self) -> None:
        flat = faiss.IndexFlatIP(64)
        flat.add(ROWS)
        super().__init__(flat, QuantisedIndex(*quantise(ROWS)))
        self.let_go = Event()
        self.passes: list[list[int]] = []
        self.fault: Exception | None = None

    def search(self, searches: Sequence[Search]) -> list[Hits]:
        self.let_go.wait()
        self.passes.append([int(search.state.argmax()) for search in searches])
        if self.fault:
            raise self.fault
        return super().search(searches)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def index() -> HeldIndex:
    return HeldIndex()


def searching(threads: SearchThreads, count: int) -> list[asyncio.Task[Hits]]:
    return [asyncio.create_task(threads.search(Search(ROWS[i % 64], EVERYTHING, 1))) for i in range(count)]


async def test_those_that_wait_are_answered_together_and_right(index: HeldIndex) -> None:
    threads = SearchThreads(index)
    tasks = searching(threads, 60)
    await asyncio.sleep(0.1)
    index.let_go.set()
    assert [hits.ids.tolist() for hits in await asyncio.gather(*tasks)] == [[i] for i in range(60)]
    assert sorted(i for together in index.passes for i in together) == list(range(60))
    assert 1 < max(map(len, index.passes)) <= TOGETHER
    threads.close()


async def test_one_too_many_is_refused_and_the_others_are_answered(index: HeldIndex) -> None:
    threads = SearchThreads(index)
    room = threads.count * (1 + WAITING_PER_THREAD)
    tasks = searching(threads, room)
    await asyncio.sleep(0.1)
    with pytest.raises(Overloaded):
        await threads.search(Search(ROWS[0], EVERYTHING, 1))
    index.let_go.set()
    assert len(await asyncio.gather(*tasks)) == room
    await threads.search(Search(ROWS[0], EVERYTHING, 1))
    threads.close()


async def test_nobody_searches_for_who_is_gone(index: HeldIndex) -> None:
    threads = SearchThreads(index)
    tasks = searching(threads, 60)
    await asyncio.sleep(0.1)
    for task in tasks[30:]:
        task.cancel()
    await asyncio.sleep(0)
    index.let_go.set()
    await asyncio.gather(*tasks[:30])
    assert {i for together in index.passes for i in together} == set(range(30))
    threads.close()


async def test_a_fault_reaches_every_waiter(index: HeldIndex) -> None:
    threads = SearchThreads(index)
    index.fault = MemoryError("no room")
    tasks = searching(threads, 20)
    index.let_go.set()
    assert all(isinstance(e, MemoryError) for e in await asyncio.gather(*tasks, return_exceptions=True))
    index.fault = None
    await threads.search(Search(ROWS[0], EVERYTHING, 1))
    threads.close()
