"""Long lists take turns; short ones never wait, and of long ones few do."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.embedding.admission import LONG, MOST_WAITING, LongLists
from api.embedding.queue import EmbeddingQueue
from shared.errors import Overloaded, Unavailable
from shared.redis.client import connect, disconnect
from tests.support.queue_system import FINGERPRINT
from tests.support.servers import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def queue(redis_instance: RedisServer) -> AsyncIterator[EmbeddingQueue]:
    redis = connect(redis_instance.url)
    yield EmbeddingQueue(redis, FINGERPRINT, 1_000)
    await disconnect(redis)


async def hold(lists: LongLists, let_go: asyncio.Event, inside: list[int], number: int) -> None:
    async with lists.turn(LONG + 1, "bulk"):
        inside.append(number)
        await let_go.wait()


async def test_turns_are_taken_one_by_one_in_order_and_one_too_many_is_refused(queue: EmbeddingQueue) -> None:
    lists, let_go, inside = LongLists(queue), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(hold(lists, let_go, inside, i)) for i in range(1 + MOST_WAITING)]
    await asyncio.sleep(0.01)
    assert inside == [0]
    with pytest.raises(Overloaded) as refused:
        await hold(lists, let_go, inside, -1)
    assert refused.value.retry_after == 1
    for _ in range(2_000):  # so many need some 50 s of turns
        with pytest.raises(Overloaded) as refused:
            await hold(lists, let_go, inside, -1)
    assert 20 <= (refused.value.retry_after or 0) <= 60
    async with lists.turn(LONG, "bulk"):
        pass  # a short list does not wait
    let_go.set()
    await asyncio.gather(*tasks)
    assert inside == list(range(1 + MOST_WAITING))


async def test_who_gives_up_waiting_leaves_the_line(queue: EmbeddingQueue) -> None:
    lists, let_go, inside = LongLists(queue), asyncio.Event(), list[int]()
    tasks = [asyncio.create_task(hold(lists, let_go, inside, i)) for i in range(1 + MOST_WAITING)]
    await asyncio.sleep(0.01)
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks[1:], return_exceptions=True)
    let_go.set()
    await asyncio.gather(*tasks[:1])
    await hold(lists, let_go, inside, 99)
    assert inside == [0, 99]


async def test_who_is_refused_here_is_told_no_less_than_the_queue_told(queue: EmbeddingQueue) -> None:
    lists, let_go, inside = LongLists(queue), asyncio.Event(), list[int]()
    await queue.retry_after("bulk", 30, 0)
    tasks = [asyncio.create_task(hold(lists, let_go, inside, i)) for i in range(1 + MOST_WAITING)]
    await asyncio.sleep(0.01)
    with pytest.raises(Overloaded) as refused:
        await hold(lists, let_go, inside, -1)
    assert 29 <= (refused.value.retry_after or 0) <= 31
    let_go.set()
    await asyncio.gather(*tasks)


async def test_nobody_waits_to_learn_what_one_before_has_learnt(queue: EmbeddingQueue) -> None:
    """Each would have its own time-out, one after the other."""
    lists, let_go, inside = LongLists(queue), asyncio.Event(), list[int]()

    async def fail() -> None:
        async with lists.turn(LONG + 1, "bulk"):
            await let_go.wait()
            raise Unavailable("No worker is alive.")

    async def come() -> None:
        async with lists.turn(LONG + 1, "bulk"):
            inside.append(1)

    tasks = [asyncio.create_task(fail())]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(come()) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0.01)
    let_go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["No worker is alive."] * len(tasks)
    assert not inside
    await come()


async def test_while_redis_is_away_the_time_is_told_as_it_is(
    queue: EmbeddingQueue, redis_instance: RedisServer
) -> None:
    assert [await queue.retry_after("bulk", 3.0, 2.0) for _ in range(3)] == [3, 5, 7]
    assert await queue.retry_after("interactive", 3.0, 2.0) == 3
    redis_instance.process.kill()
    redis_instance.process.wait()
    assert [await queue.retry_after("bulk", 3.0, 2.0) for _ in range(3)] == [3, 3, 3]
