"""Single flight in one process: one result for all who want it, and an end when nobody does."""

import asyncio

import pytest

from api.embedding.flights import Flights

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Slow:
    """Work that ends when it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return f"result {self.begun}"


async def test_callers_share_one_run_and_its_result() -> None:
    flights, work = Flights[str, str](), Slow()
    callers = [asyncio.create_task(flights.share("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    assert "key" in flights
    work.go.set()
    assert await asyncio.gather(*callers) == ["result 1"] * 3
    assert "key" not in flights
    assert await flights.share("key", work) == "result 2"


async def test_callers_share_one_error() -> None:
    flights = Flights[str, str]()

    async def fail() -> str:
        await asyncio.sleep(0.01)
        raise KeyError("fault")

    outcomes = await asyncio.gather(*(flights.share("key", fail) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["'fault'"] * 3
    assert "key" not in flights


async def test_the_work_goes_on_until_the_last_caller_has_left() -> None:
    flights, work = Flights[str, str](), Slow()
    first, second = (asyncio.create_task(flights.share("key", work)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert (work.begun, work.cancelled) == (1, 0)
    second.cancel()
    await asyncio.sleep(0.01)
    assert work.cancelled == 1
    assert "key" not in flights


async def test_a_flight_from_elsewhere_lands_or_fails_for_all_who_joined_it() -> None:
    flights = Flights[str, int]()
    flight = flights.begin("a")
    assert flights.get("a") is flight
    flights.land("a", 1)
    flights.land("a", 2)  # nobody waits any more
    assert await flight == 1
    assert flights.get("a") is None
    lost = flights.begin("b")
    flights.fail("b", KeyError("gone"))
    with pytest.raises(KeyError):
        await lost


async def test_a_flight_that_its_waiter_has_cancelled_may_still_land() -> None:
    flights = Flights[str, int]()
    flights.begin("a").cancel()
    flights.land("a", 1)
    assert "a" not in flights
