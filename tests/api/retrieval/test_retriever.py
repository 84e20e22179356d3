"""A request's texts in the queue: their lane, how long they are kept, and the place of one that fails."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from api.corpus.corpus import Corpus, SegmentCorpus
from api.corpus.reader import ReadCorpus
from api.embedding.admission import LONG
from api.http.bodies import RetrieveBody, parse_body
from api.retrieval.access import AccessibleSets
from api.retrieval.context import Context
from api.retrieval.new_premises import NewPremiseLists
from api.retrieval.retriever import INTERACTIVE_STATES, Retriever
from api.search.index import PremiseIndex
from api.search.segments import SegmentedIndex
from api.search.threads import SearchThreads
from api.telemetry.metrics import Metrics
from api.telemetry.stages import Stages
from shared.deadline import Deadline
from shared.errors import TextFailed
from shared.model.text import text_digest
from shared.redis import keys as redis_keys
from tests.support.queue_system import DIMENSION, FINGERPRINT, Work, embedder, worker
from tests.support.servers import RedisServer

BUSY = 3
"""A machine that is busy with other things may take this many times as long."""
MOST_NEW = 4
STATE_TTL_S, PREMISE_TTL_S = 50.0, 500.0


def context(*decls: str) -> Context:
    new = [{"name": f"n{i}", "decl": decl} for i, decl in enumerate(decls)]
    return parse_body(json.dumps({"state": "", "k": 3, "new_premises": new}).encode(), RetrieveBody)[1]


@asynccontextmanager
async def retriever_over(url: str, demo_corpus: ReadCorpus) -> AsyncIterator[Retriever]:
    """A retriever with made-up rows, an embedder and no workers."""
    corpus = Corpus.of([SegmentCorpus.of(demo_corpus)])
    rows = np.resize(np.eye(DIMENSION, dtype=np.float32), (len(corpus), DIMENSION))
    index, threads = SegmentedIndex([PremiseIndex.of(rows)]), SearchThreads()
    async with embedder(url) as e:
        lists = NewPremiseLists(corpus, e, MOST_NEW, PREMISE_TTL_S, Metrics())
        yield Retriever(corpus, index, e, AccessibleSets(corpus), lists, threads, max_k=8, state_ttl=STATE_TTL_S)
    threads.close()


def test_a_goal_does_not_wait_for_the_thousands_of_states_of_a_batch(
    redis_instance: RedisServer, demo_corpus: ReadCorpus
) -> None:
    url, batches, goals = redis_instance.url, Work(delay_s=0.05), Work(delay_s=0.05)
    states = [f"⊢ {i} = {i}" for i in range(5_000)]

    async def run() -> int:
        async with (
            worker(url, batches, slots=1, name="b"),
            worker(url, goals, slots=1, lane="interactive", name="i"),
            retriever_over(url, demo_corpus) as retriever,
        ):
            batch = asyncio.create_task(retriever.retrieve(states, context(), Stages(), Deadline.after(100)))
            while not batches.embedded and not goals.embedded:
                await asyncio.sleep(0.01)
            async with asyncio.timeout(BUSY):
                await retriever.retrieve(["⊢ goal"], context(), Stages(), Deadline.after(100))
            batch.cancel()
            return sum(batches.embedded.values())

    done = asyncio.run(run())
    assert goals.order == ["⊢ goal"]
    assert 0 < done < len(states) / 2


@pytest.mark.parametrize("count", [1, INTERACTIVE_STATES, INTERACTIVE_STATES + 1])
def test_states_and_premises_are_kept_for_their_own_time_in_any_lane(
    redis_instance: RedisServer, demo_corpus: ReadCorpus, count: int
) -> None:
    url, bulk, interactive = redis_instance.url, Work(), Work()
    states = [f"⊢ {i} = {i}" for i in range(count)]

    async def run() -> None:
        async with (
            worker(url, bulk, name="b"),
            worker(url, interactive, lane="interactive", name="i"),
            retriever_over(url, demo_corpus) as retriever,
        ):
            await retriever.retrieve(states, context("def new : Nat"), Stages(), Deadline.after(20))

    asyncio.run(run())
    assert set(interactive.order) == set(states if count <= INTERACTIVE_STATES else [])
    assert set(bulk.order) == {"def new : Nat", *states} - set(interactive.order)
    with redis_instance.client() as client:

        def left_s(text: str) -> float:
            left: int = client.pttl(redis_keys.embedding(FINGERPRINT, text_digest(text)))
            return left / 1000

        assert all(STATE_TTL_S - 20 < left_s(state) <= STATE_TTL_S for state in states)
        assert PREMISE_TTL_S - 20 < left_s("def new : Nat") <= PREMISE_TTL_S


@pytest.mark.parametrize(
    ("states", "decls", "place"),
    [
        (["bad"], [], "The state"),
        (["a", "bad", "b", "bad"], [], "State 1 (counted from 0)"),
        (["a"] * LONG + ["b", "bad", "c", "bad"], [], f"State {LONG + 1} (counted from 0)"),
        (["a"], ["b", "c", "bad"], "The declaration of new premise 2 (counted from 0)"),
        # Only the last four are ranked.
        (["a"], ["bad", "b", "b", "c", "bad", "bad"], "The declaration of new premise 4 (counted from 0)"),
    ],
    ids=["the state", "a state", "in a long list", "a new premise", "after dropped ones"],
)
def test_the_sentence_says_which_text_failed(
    redis_instance: RedisServer, demo_corpus: ReadCorpus, states: list[str], decls: list[str], place: str
) -> None:
    url = redis_instance.url

    def failing(text: str) -> bool:
        return text == "bad"

    async def run() -> None:
        async with (
            worker(url, Work(failing=failing), name="b"),
            worker(url, Work(failing=failing), lane="interactive", name="i"),
            retriever_over(url, demo_corpus) as retriever,
        ):
            for _ in range(2):  # what failed once fails again
                with pytest.raises(TextFailed) as failed:
                    await retriever.retrieve(states, context(*decls), Stages(), Deadline.after(20))
                assert str(failed.value) == f"{place}: the model has no embedding."

    asyncio.run(run())
