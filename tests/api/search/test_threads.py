"""Searches that wait are answered together, in bounded number, and only for clients that still wait."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from threading import Barrier, Event

import faiss
import numpy as np
import pytest

from api.search.index import Hits, PremiseIndex, Search
from api.search.premise_set import PremiseSet
from api.search.segments import SegmentedIndex
from api.search.threads import TOGETHER, WAITING_PER_THREAD, SearchThreads
from shared.cpus import usable_cpus
from shared.errors import Overloaded

pytestmark = pytest.mark.anyio

ROWS = np.eye(64, dtype=np.float32)
EVERYTHING = PremiseSet.of(np.ones(64, np.bool_))


class HeldIndex(SegmentedIndex):
    """Searches when it is let go, and notes how many came together."""

    def __init__(self, on_pass: Callable[[], None] = lambda: None) -> None:
        super().__init__([PremiseIndex.of(ROWS)])
        self._on_pass = on_pass
        self.let_go = Event()
        self.passes: list[list[int]] = []
        self.fault: Exception | None = None

    def search(self, searches: Sequence[Search]) -> list[Hits]:
        self.let_go.wait()
        self._on_pass()
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


@pytest.fixture
def threads() -> Iterator[SearchThreads]:
    threads = SearchThreads()
    yield threads
    threads.close()


def searching(threads: SearchThreads, index: SegmentedIndex, count: int) -> list[asyncio.Task[Hits]]:
    return [asyncio.create_task(threads.search(index, Search(ROWS[i % 64], EVERYTHING, 1))) for i in range(count)]


async def test_those_that_wait_are_answered_together_and_right(threads: SearchThreads, index: HeldIndex) -> None:
    tasks = searching(threads, index, 60)
    await asyncio.sleep(0.1)
    index.let_go.set()
    assert [hits.ids.tolist() for hits in await asyncio.gather(*tasks)] == [[i] for i in range(60)]
    assert sorted(i for together in index.passes for i in together) == list(range(60))
    assert 1 < max(map(len, index.passes)) <= TOGETHER


async def test_one_too_many_is_refused_and_the_others_are_answered(threads: SearchThreads, index: HeldIndex) -> None:
    room = threads.count * (1 + WAITING_PER_THREAD)
    tasks = searching(threads, index, room)
    await asyncio.sleep(0.1)
    with pytest.raises(Overloaded):
        await threads.search(index, Search(ROWS[0], EVERYTHING, 1))
    index.let_go.set()
    assert len(await asyncio.gather(*tasks)) == room
    await threads.search(index, Search(ROWS[0], EVERYTHING, 1))


async def test_searches_of_several_indices_are_answered_each_by_its_own(threads: SearchThreads) -> None:
    first, second = HeldIndex(), HeldIndex()
    holding = searching(threads, first, threads.count)  # every thread has something to do
    await asyncio.sleep(0.1)
    tasks = [task for i in range(40) for task in searching(threads, (first, second)[i % 2], 1)]
    await asyncio.sleep(0.1)
    first.let_go.set()
    second.let_go.set()
    assert {hits.ids.tolist()[0] for hits in await asyncio.gather(*tasks)} == {0}
    await asyncio.gather(*holding)
    assert sum(map(len, first.passes)) == 20 + threads.count
    assert sum(map(len, second.passes)) == 20
    assert max(map(len, second.passes)) > 1


async def test_an_index_that_many_ask_does_not_keep_another_waiting(threads: SearchThreads) -> None:
    order: list[str] = []
    busy, other = HeldIndex(lambda: order.append("busy")), HeldIndex(lambda: order.append("other"))
    crowd = searching(threads, busy, 60 * threads.count)
    await asyncio.sleep(0.1)
    (task,) = searching(threads, other, 1)
    await asyncio.sleep(0.1)
    for index in (other, busy):
        index.let_go.set()
    await asyncio.gather(task, *crowd)
    # The passes that run already, and one more of each other thread at most.
    assert order.index("other") <= 2 * threads.count


async def test_a_search_thread_a_cpu_and_one_openmp_thread_in_each(threads: SearchThreads) -> None:
    together = Barrier(threads.count)

    def openmp_threads() -> int:
        together.wait(20)  # so that each call is in another thread
        return int(faiss.omp_get_max_threads())

    here = faiss.omp_get_max_threads()
    assert threads.count == usable_cpus()
    assert await asyncio.gather(*(threads.run(openmp_threads) for _ in range(threads.count))) == [1] * threads.count
    assert faiss.omp_get_max_threads() == here


async def test_nobody_searches_for_who_is_gone(threads: SearchThreads, index: HeldIndex) -> None:
    tasks = searching(threads, index, 60)
    await asyncio.sleep(0.1)
    for task in tasks[30:]:
        task.cancel()
    await asyncio.sleep(0)
    index.let_go.set()
    await asyncio.gather(*tasks[:30])
    assert {i for together in index.passes for i in together} == set(range(30))


async def test_a_fault_reaches_every_waiter(threads: SearchThreads, index: HeldIndex) -> None:
    index.fault = MemoryError("no room")
    tasks = searching(threads, index, 20)
    index.let_go.set()
    assert all(isinstance(e, MemoryError) for e in await asyncio.gather(*tasks, return_exceptions=True))
    index.fault = None
    await threads.search(index, Search(ROWS[0], EVERYTHING, 1))
