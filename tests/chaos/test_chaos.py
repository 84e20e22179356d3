"""Real faults in a whole running system, once each; `make chaos` goes on for longer."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from shared.deadline import Deadline
from shared.redis import keys as redis_keys
from tests.chaos.faults import Fault, faults
from tests.chaos.phase import run_phase
from tests.chaos.reference import TOLERANCE, Question, Reference, flaw
from tests.chaos.system import System, system
from tests.support.queue_system import FINGERPRINT, TTL_S, Work, embedder, worker
from tests.support.servers import RedisServer, Stack

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]
"""Nine processes start in here, which is seconds on a free machine and a minute or two on a busy one."""


@pytest.fixture(scope="module")
def running(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Over the index that the suite has built already."""
    with system(tmp_path_factory.mktemp("chaos"), Path(served.env["DATA_DIR"])) as made:
        yield made


@pytest.fixture(scope="module")
def reference(running: System) -> Reference:
    return Reference(running.data_dir)


def questions(reference: Reference, count: int) -> list[Question]:
    return [reference.next() for _ in range(count)]


def test_the_right_answers_are_recognised_and_wrong_ones_are_not(running: System, reference: Reference) -> None:
    """The judge of the tests below is judged: by real answers, and by such as faults might produce."""
    asked = questions(reference, 40)
    for question in asked:
        other = next(other for other in reversed(asked) if other.body["state"] != question.body["state"])
        hits = httpx.post(f"{running.apis[0].base_url}/retrieve", json=question.body, timeout=60).json()
        assert flaw(question, hits) == ""
        assert flaw(other, hits)
        assert flaw(question, hits[:-1])
        assert flaw(question, hits[1:] + hits[:1])
        assert flaw(question, [*hits[:-1], hits[0]])
        assert flaw(question, [{**hits[0], "score": hits[0]["score"] + 2 * TOLERANCE}, *hits[1:]])
        assert flaw(question, [{**hits[0], "score": float("nan")}, *hits[1:]])
        assert flaw(question, [])
        best = max(question.scores, key=lambda name: question.scores[name])
        assert flaw(replace(question, scores={n: s for n, s in question.scores.items() if n != best}), hits)


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_promises_are_kept_while_and_after(fault: Fault, running: System, reference: Reference) -> None:
    phase = run_phase(fault, running, reference)
    assert phase.problems == [], phase.row()


def test_workers_whose_signs_of_life_were_lost_are_waited_for(redis_instance: RedisServer) -> None:
    """They give the next one a quarter of a second later; what was lost is made again, and no request fails."""

    async def run() -> None:
        async with worker(redis_instance.url, Work()), embedder(redis_instance.url) as e:
            for i in range(5):
                with redis_instance.client() as client:
                    client.delete(redis_keys.workers(FINGERPRINT))
                await e.embed([f"cold {i}"], "bulk", TTL_S, Deadline.after(10))

    asyncio.run(run())
