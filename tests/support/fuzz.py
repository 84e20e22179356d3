"""A fuzzing campaign: drawn cases against one check, for a number of cases or for a share of FUZZ_SECONDS."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

Case = TypeVar("Case")

CAMPAIGNS = 12
"""That share FUZZ_SECONDS."""


def fuzz(strategy: SearchStrategy[Case], check: Callable[[Case], None], examples: int) -> int:
    """Check drawn cases and return how many there were; a failing one is made small and raised.

    Without FUZZ_SECONDS in the environment the cases are the same each time: a build must not fail by chance. With
    it they are new each time, and come until the time is up.
    """
    seconds = float(os.environ.get("FUZZ_SECONDS", "0")) / CAMPAIGNS
    cases = 0

    @settings(
        max_examples=examples,
        derandomize=not seconds,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(case: Case) -> None:
        nonlocal cases
        cases += 1
        check(case)

    give_up = time.monotonic() + seconds
    run()
    while time.monotonic() < give_up:
        run()
    return cases
