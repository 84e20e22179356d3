"""One fault under load: injected, survived, and judged."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np

from shared.redis import keys as redis_keys
from tests.chaos.faults import BUSY, PROMISED_S, Fault
from tests.chaos.load import Answer, load
from tests.chaos.reference import Reference
from tests.chaos.system import System

QUIET_S = 0.5
"""Before a fault; and as long a run of nothing but answers, cold ones among them, is a recovery."""
QUIET_MOST_S = 3.0
"""The most that the slowest answer before the fault adds to what a request may be held up by it."""


@dataclass
class Phase:
    """What happened, and which promises were broken."""

    fault: str
    answers: list[Answer] = field(default_factory=list)
    recovered_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        """Fault, requests, failures by status, moved, p50, p99, max, recovery, verdict."""
        millis = [1000 * a.seconds for a in self.answers]
        failed = Counter(a.status for a in self.answers if a.status != "200")
        return [
            self.fault,
            str(len(millis)),
            ", ".join(f"{status}: {count}" for status, count in sorted(failed.items())) or "none",
            str(sum(1 for a in self.answers if a.moved)),
            *(f"{value:.0f}" for value in (np.percentile(millis, 50), np.percentile(millis, 99), max(millis))),
            f"{self.recovered_s:.1f}",
            "; ".join(self.problems) or "kept",
        ]


COLUMNS = ("fault", "requests", "failures", "moved", "p50 ms", "p99", "max", "recovery s", "promises")


def lay_out(system: System, reference: Reference) -> None:
    """Make the Redis cache hold what warm questions need, and not what cold ones do, whatever the last fault left."""
    fingerprint = httpx.get(f"{system.apis[0].base_url}/version", timeout=5).json()["model"]
    with system.cache.client() as client:
        client.delete(*(redis_keys.embedding(fingerprint, digest) for digest in reference.forgettable))
        for digest, vector in reference.warm.items():
            client.set(redis_keys.embedding(fingerprint, digest), vector.astype("<f4").tobytes())


def run_phase(fault: Fault, system: System, reference: Reference) -> Phase:
    """Inject the fault while the load goes on, until everything is answered again or clearly will not be."""
    phase = Phase(fault.name)
    if fault.needs_whole:
        system.wait_until_whole()
    lay_out(system, reference)
    with load(system.urls, reference.next) as clients:
        time.sleep(QUIET_S)
        begun = time.monotonic()
        injected = fault.inject(system)
        give_up = max(injected.over, time.monotonic() - QUIET_S) + 2 * BUSY * PROMISED_S
        while not is_recovered(clients.answers, injected.over) and time.monotonic() < give_up:
            time.sleep(0.05)
        recovered = is_recovered(clients.answers, injected.over)
    phase.answers = clients.answers
    phase.recovered_s = last_failure(phase.answers, injected.over) - injected.over
    phase.problems += injected.problems
    phase.problems += [f"{name} died" for name in system.died()]
    if not recovered:
        phase.problems.append("when the fault was long over, not every kind of request was answered")
    if phase.recovered_s > BUSY * PROMISED_S:
        phase.problems.append(f"recovered after {phase.recovered_s:.1f} s only")
    phase.problems += broken_promises(fault, phase.answers, begun)
    return phase


def is_recovered(answers: Sequence[Answer], over: float) -> bool:
    """Whether for `QUIET_S` there was nothing but answers, of every kind."""
    clean_since = last_failure(answers, over)
    kinds = {a.kind for a in list(answers) if a.started > clean_since}
    return time.monotonic() - clean_since > QUIET_S and {"warm", "fresh", "new"} <= kinds


def last_failure(answers: Sequence[Answer], over: float) -> float:
    """When the last request that failed was sent; `over` if none was after that."""
    return max([over, *(a.started for a in list(answers) if a.status != "200")])


def broken_promises(fault: Fault, answers: Sequence[Answer], begun: float) -> list[str]:
    """One sentence for each kind of answer that should not have been given."""
    problems = []
    wrong = [a.wrong for a in answers if a.wrong]
    if wrong:
        problems.append(f"{len(wrong)} wrong answers, such as: {wrong[0]}")
    odd = Counter(a.status for a in answers if a.status not in fault.statuses)
    if odd:
        problems.append(f"answers with status {dict(odd)}")
    if fault.warm_served:
        cold = Counter(a.status for a in answers if a.kind == "warm" and a.status != "200")
        if cold:
            problems.append(f"requests that need no embedding were answered {dict(cold)}")
    refused = [a.seconds for a in answers if a.status == "503"]
    if refused and max(refused) > BUSY * PROMISED_S:
        problems.append(f"a 503 took {max(refused):.1f} s")
    if fault.held_up_s:
        quiet = max((a.seconds for a in answers if a.started + a.seconds < begun), default=0.0)
        slowest = max(a.seconds for a in answers)
        if slowest > BUSY * fault.held_up_s + min(quiet, QUIET_MOST_S):
            problems.append(f"a request was held up for {slowest:.1f} s")
    return problems
