"""Single flight: a result that is on its way to one caller is shared with all who want the same."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Flights(Generic[Key, Value]):
    """Results on their way, by key.

    A flight either ends with `land` or `fail`, when the result comes from elsewhere, or is the work that `share` runs.
    """

    def __init__(self) -> None:
        self._flights: dict[Key, asyncio.Future[Value]] = {}
        self._waiting: dict[asyncio.Future[Value], int] = {}
        """Callers of `share` by flight."""

    def __contains__(self, key: Key) -> bool:
        return key in self._flights

    def get(self, key: Key) -> asyncio.Future[Value] | None:
        """The flight to join, if there is one."""
        return self._flights.get(key)

    def begin(self, key: Key) -> asyncio.Future[Value]:
        """A flight that lands by `land` or `fail`."""
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        return flight

    def land(self, key: Key, value: Value) -> None:
        """Give the value to all who wait for it, if any do."""
        flight = self._flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_result(value)

    def fail(self, key: Key, error: Exception) -> None:
        """Give the error to all who wait, if any do."""
        flight = self._flights.pop(key, None)
        if flight is not None and not flight.done():
            flight.set_exception(error)
            flight.exception()  # seen, even if no request waits any more

    async def share(self, key: Key, work: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """The result of the work, begun now or by an earlier caller; cancelled once all callers have left."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(work())
        self._waiting[flight] = self._waiting.get(flight, 0) + 1
        try:
            return await asyncio.shield(flight)
        finally:
            self._waiting[flight] -= 1
            is_last = not self._waiting[flight]
            if is_last:
                del self._waiting[flight]
                flight.cancel()
            if (is_last or flight.done()) and self._flights.get(key) is flight:
                del self._flights[key]
