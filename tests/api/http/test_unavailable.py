"""Answers for what cannot be served now: a reason, and when to try again; never an empty array."""

import asyncio
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import numpy as np
import pytest

from api.corpus.corpus import Corpus, SegmentCorpus
from api.corpus.reader import ReadCorpus
from api.embedding.embedder import Embedder
from api.embedding.queue import EmbeddingQueue
from api.http.bodies import RetrieveBody, parse_body
from api.retrieval.access import AccessibleSets
from api.retrieval.context import Context
from api.retrieval.new_premises import NewPremiseLists
from api.retrieval.retriever import Retriever
from api.search.index import PremiseIndex
from api.search.premise_set import PremiseSet
from api.search.segments import SegmentedIndex
from api.search.threads import SearchThreads
from api.telemetry.metrics import Metrics
from api.telemetry.stages import Stages
from shared.commands.redis_server import free_port
from shared.deadline import Deadline
from shared.errors import DeadlinePassed
from shared.redis.embedding_cache import EmbeddingCache
from tests.support.lean_client import GOAL, error_sentence, retrieve
from tests.support.servers import Stack, running, wait_for, wait_until_ready


@contextmanager
def another_api(served: Stack, directory: Path, *, ready: bool = True, **settings: str) -> Iterator[httpx.Client]:
    """One more API process beside the one that runs, with some settings of its own."""
    port, log = free_port(), directory / "api.log"
    env = {**served.env, "PORT": str(port), **settings}
    with (
        running([sys.executable, "-P", "-m", "api"], env, log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        if ready:
            wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        else:
            wait_for(lambda: answers(client, "/health/live"), "the API")
        yield client


def answers(client: httpx.Client, route: str) -> bool:
    try:
        return client.get(route).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def unready(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An API whose premises nobody embeds: no worker serves a model of that name."""
    directory = tmp_path_factory.mktemp("unready")
    with another_api(served, directory, ready=False, MODEL_NAME="nobody-serves-it") as client:
        yield client


@pytest.mark.parametrize("k", [5, 0])
def test_a_request_before_the_server_is_ready_is_told_to_try_again(unready: httpx.Client, k: int) -> None:
    answer = unready.post("/retrieve", json={"state": GOAL, "k": k})
    assert "not ready" in error_sentence(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_server_that_is_not_ready_is_live_and_says_why_it_is_not_ready(unready: httpx.Client) -> None:
    assert unready.get("/health/live").status_code == 200
    for route in ("/health/ready", "/health"):
        answer = unready.get(route)
        assert answer.status_code == 503
        assert answer.json()["status"] == "not ready"
        assert answer.json()["reasons"]


def test_names_and_limits_are_not_served_before_the_data_is(unready: httpx.Client) -> None:
    for route in ("/max-new-premises", "/indexed-premises", "/indexed-modules"):
        assert "not ready" in error_sentence(unready.get(route), 503)


def test_more_cold_texts_than_are_admitted_are_told_to_try_again(served: Stack, tmp_path: Path) -> None:
    with another_api(served, tmp_path, MAX_NEW_PREMISES="1", EMBED_SERVICE_MAX_CONCURRENT_INPUTS="2") as client:
        states = [f"⊢ nobody has asked this {i}" for i in range(3)]
        answer = client.post("/retrieve/batch", json={"states": states, "k": 5})
        error_sentence(answer, 429)
        assert int(answer.headers["Retry-After"]) > 0
        assert len(retrieve(client, state=states[0], k=5).json()) == 5


def test_a_request_whose_deadline_passed_says_so(served: Stack, tmp_path: Path) -> None:
    new = [{"name": f"n{i}", "decl": f"theorem slow_{i} : {'a + ' * 40} {i} = {i}"} for i in range(1500)]
    body = {"state": GOAL, "k": 5, "new_premises": new}

    def ask(client: httpx.Client) -> int:
        """How many are embedded by now."""
        answer = client.post("/retrieve", json=body)
        done = re.match(r"(\d+) of 1500 texts are embedded", error_sentence(answer, 504))
        assert int(answer.headers["Retry-After"]) > 0
        assert done
        return int(done[1])

    with another_api(served, tmp_path, REQUEST_TIMEOUT="1") as client, ThreadPoolExecutor(2) as clients:
        # The second one joins what the first began, and is told as much.
        first, joined = clients.map(lambda _: ask(client), range(2))
        assert ask(client) > max(first, joined)


def test_the_deadline_is_that_of_everything_a_request_needs(demo_corpus: ReadCorpus) -> None:
    class Never(AccessibleSets):
        async def of(self, _context: Context) -> PremiseSet:
            await asyncio.Event().wait()
            raise AssertionError

    async def asked() -> None:
        # With k = 0 and no new premises nothing is embedded, so no queue is needed.
        corpus = Corpus.of([SegmentCorpus.of(demo_corpus)])
        index = SegmentedIndex([PremiseIndex.of(np.eye(len(corpus), 8, dtype=np.float32))])
        embedder = Embedder(cast(EmbeddingQueue, None), cast(EmbeddingCache, None),
                            dimension=8, near_entries=1, chunk_tokens=1)  # fmt: skip
        lists = NewPremiseLists(corpus, embedder, 1, 60, Metrics())
        retriever = Retriever(corpus, index, embedder, Never(corpus), lists, SearchThreads(), max_k=8, state_ttl=60)
        _, context = parse_body(b'{"state": "", "k": 0}', RetrieveBody)
        with pytest.raises(DeadlinePassed):
            await retriever.retrieve([""], context, Stages(), Deadline.after(0.05))

    asyncio.run(asked())
