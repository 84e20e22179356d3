"""A deadline: absolute, never negative, the same for all who are handed it."""

import asyncio
import time

import pytest

from shared.deadline import Deadline


def test_what_is_left_shrinks_to_nothing() -> None:
    deadline = Deadline.after(0.05)
    assert 0 < deadline.left() <= 0.05
    time.sleep(0.06)
    assert deadline.left() == 0


def test_a_later_one_is_later_by_as_much_also_once_the_first_has_passed() -> None:
    passed = Deadline.after(-5)
    assert passed.left() == 0
    assert passed.later(1).left() == 0
    assert 4.9 < passed.later(10).left() <= 5
    assert passed < passed.later(1)


def test_its_timeout_ends_a_block_at_the_deadline() -> None:
    async def run() -> float:
        start = time.monotonic()
        deadline = Deadline.after(0.1)
        await asyncio.sleep(0.05)  # the block has what is left, not all
        with pytest.raises(TimeoutError):
            async with deadline.timeout():
                await asyncio.sleep(10)
        return time.monotonic() - start

    assert 0.1 <= asyncio.run(run()) < 1


def test_a_deadline_that_has_passed_ends_a_block_at_its_first_wait() -> None:
    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with Deadline.after(-1).timeout():
                await asyncio.sleep(10)

    asyncio.run(run())
