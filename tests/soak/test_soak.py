"""The judge of `make soak`: growth after warm-up is seen, what happens in warm-up or once is not taken for it."""

import pytest

from tests.soak.__main__ import SAMPLES, Series


def flat(values: list[float]) -> bool:
    return Series("memory", "MB", noise=4, values=values).is_flat()


@pytest.mark.parametrize("start", [100.0, 1000.0])
def test_steady_growth_is_seen(start: float) -> None:
    assert not flat([start + 0.001 * start * i for i in range(SAMPLES)])


def test_growth_within_warm_up_and_single_samples_do_not_count() -> None:
    grown = [min(200.0, 100.0 + 10 * i) for i in range(SAMPLES)]
    assert flat(grown)
    grown[-3] = 1000.0
    assert flat(grown)


def test_what_shrinks_is_flat() -> None:
    assert flat([500.0 - i for i in range(SAMPLES)])
