"""Long lists take turns; short ones never wait, and of long ones few do."""

import asyncio

import pytest

from api.long_lists import LONG, LOOKS_AT_ONCE, MOST_WAITING, MOST_WAITING_TO_LOOK, TURNS_AT_ONCE, LongLists
from shared.errors import Overloaded

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def hold(lists: LongLists, let_go: asyncio.Event, inside: list[int], number: int) -> None:
    async with lists.turn(LONG + 1):
        inside.append(number)
        await let_go.wait()


async def test_turns_are_taken_in_order_few_at_once_and_one_too_many_is_refused() -> None:
    lists, let_go, inside = LongLists(), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(hold(lists, let_go, inside, i)) for i in range(TURNS_AT_ONCE + MOST_WAITING)]
    await asyncio.sleep(0.01)
    assert inside == list(range(TURNS_AT_ONCE))
    with pytest.raises(Overloaded) as refused:
        await hold(lists, let_go, inside, -1)
    assert refused.value.retry_after == 1
    for _ in range(2_000):  # so many need some 50 s of turns
        with pytest.raises(Overloaded) as refused:
            lists.require_room()
    assert 20 <= (refused.value.retry_after or 0) <= 60
    with pytest.raises(Overloaded):
        lists.look()
    async with lists.turn(LONG):
        pass  # a short list does not wait
    let_go.set()
    await asyncio.gather(*tasks)
    assert inside == list(range(TURNS_AT_ONCE + MOST_WAITING))
    lists.require_room()


async def test_who_gives_up_waiting_leaves_the_line() -> None:
    lists, let_go, inside = LongLists(), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(hold(lists, let_go, inside, i)) for i in range(TURNS_AT_ONCE + MOST_WAITING)]
    await asyncio.sleep(0.01)
    for task in tasks[TURNS_AT_ONCE:]:
        task.cancel()
    await asyncio.gather(*tasks[TURNS_AT_ONCE:], return_exceptions=True)
    lists.require_room()
    let_go.set()
    await asyncio.gather(*tasks[:TURNS_AT_ONCE])
    await hold(lists, let_go, inside, 99)
    assert inside == [*range(TURNS_AT_ONCE), 99]


async def look(lists: LongLists, let_go: asyncio.Event) -> None:
    async with lists.look():
        await let_go.wait()


async def test_few_lists_are_looked_at_and_few_wait_for_that() -> None:
    lists, let_go = LongLists(), asyncio.Event()
    tasks = [asyncio.create_task(look(lists, let_go)) for _ in range(LOOKS_AT_ONCE + MOST_WAITING_TO_LOOK)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded):
        lists.require_room()
    let_go.set()
    await asyncio.gather(*tasks)
    lists.require_room()


async def test_who_is_refused_here_is_told_no_less_than_the_queue_told() -> None:
    lists, let_go = LongLists(), asyncio.Event()
    lists.told(30)
    tasks = [asyncio.create_task(look(lists, let_go)) for _ in range(LOOKS_AT_ONCE + MOST_WAITING_TO_LOOK)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded) as refused:
        lists.require_room()
    assert 29 <= (refused.value.retry_after or 0) <= 31
    let_go.set()
    await asyncio.gather(*tasks)
