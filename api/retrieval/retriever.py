"""A request, top to bottom: embed what is not cached, find what is accessible, search, score, merge."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from api.corpus.corpus import Corpus
from api.embedding.embedder import Embedder
from api.retrieval.access import AccessibleSets
from api.retrieval.context import Context
from api.retrieval.new_premises import NewPremiseLists, NewPremises
from api.retrieval.ranking import Ranked, merge, new_premise_scores
from api.search.index import Hits, Search
from api.search.premise_set import PremiseSet
from api.search.segments import SegmentedIndex
from api.search.threads import TOGETHER, SearchThreads
from api.telemetry.stages import Stages
from shared.deadline import Deadline
from shared.errors import DeadlinePassed, TextFailed
from shared.redis.keys import Lane
from shared.vectors import Vector, Vectors

T = TypeVar("T")

LATER_S = 0.2
"""The request's deadline is this many seconds after the embedding deadline, so that the embedding error, which can say
how many texts are done, comes first."""
INTERACTIVE_STATES = 16
"""Up to so many states of one request go in the interactive lane: workers embed them in one batch, for which another
client's goal hardly waits. More go in the bulk lane: a goal would wait for all of them, and their client waits for the
last one, not for the first."""


@dataclass(frozen=True)
class Retrieval:
    """Answers, one a state, and what the metrics count."""

    ranked: list[Ranked]
    dropped: int
    """New premises that were too many to rank."""
    new_premises: int
    """Ranked."""
    widened: int
    """Searches that had to read blocks again."""


@dataclass(frozen=True)
class Retriever:
    """Answers requests against one corpus."""

    corpus: Corpus
    index: SegmentedIndex
    """By the corpus's premise ids."""
    embedder: Embedder
    accessible_sets: AccessibleSets
    new_premises: NewPremiseLists
    threads: SearchThreads
    max_k: int
    state_ttl: float
    """Seconds for which the cache keeps the embedding of a state."""

    async def retrieve(self, states: Sequence[str], context: Context, stages: Stages, deadline: Deadline) -> Retrieval:
        """The best premises for each state; `stages` learns what took how long.

        Raises:
            PremiseServerError: with the HTTP status that fits.
        """
        try:
            async with deadline.later(LATER_S).timeout():
                return await self._retrieve(states, context, stages, deadline)
        except TimeoutError:
            raise DeadlinePassed("The request took too long (REQUEST_TIMEOUT); try again.") from None

    async def _retrieve(self, states: Sequence[str], context: Context, stages: Stages, deadline: Deadline) -> Retrieval:

        async def timed(stage: str, work: Awaitable[T]) -> T:
            with stages.measure(stage):
                return await work

        k = min(context.k, self.max_k)
        try:
            async with asyncio.TaskGroup() as group:
                # Both kinds of text wait for workers side by side; meanwhile the accessible set is made.
                state_rows = group.create_task(timed("state", self._embed_states(states if k > 0 else (), deadline)))
                new_premises = group.create_task(
                    timed("new_premises", self.new_premises.of(context.new_premises, deadline))
                )
                accessible = group.create_task(timed("accessible", self.accessible_sets.of(context)))
        except ExceptionGroup as errors:
            # The one that ended the group; the others were only cancelled, or failed in the same moment.
            raise errors.exceptions[0] from None
        new = new_premises.result()
        if k <= 0:
            return Retrieval([[] for _ in states], new.dropped, len(new.names), 0)
        among = accessible.result().without(new.overridden)
        ranked: list[Ranked] = []
        widened = 0
        rows = state_rows.result()
        for start in range(0, len(rows), TOGETHER):
            part = rows[start : start + TOGETHER]
            with stages.measure("search"):
                scored = await asyncio.gather(*(self._scored(row, among, new, k) for row in part))
            with stages.measure("merge"):
                ranked += [merge(hits, self.corpus.names, scores, new.names, k) for hits, scores in scored]
            widened += sum(hits.widened for hits, _ in scored)
        return Retrieval(ranked, new.dropped, len(new.names), widened)

    async def _embed_states(self, states: Sequence[str], deadline: Deadline) -> Vectors:
        try:
            return await self.embedder.embed(states, lane_of(len(states)), self.state_ttl, deadline)
        except TextFailed as error:
            place = "The state" if len(states) == 1 else f"State {error.position} (counted from 0)"
            raise TextFailed(f"{place}: {error}.", error.position) from None

    async def _scored(self, state: Vector, accessible: PremiseSet, new: NewPremises, k: int) -> tuple[Hits, Vector]:
        """The best of the indexed premises, and the score of every new one."""
        # Side by side: either reads megabytes, and neither holds Python's lock.
        hits, scores = await asyncio.gather(
            self.threads.search(self.index, Search(state, accessible, k)),
            self.threads.run(new_premise_scores, state, new.rows),
        )
        return hits, scores


def lane_of(states: int) -> Lane:
    """The lane of a request's states, by their count."""
    return "interactive" if states <= INTERACTIVE_STATES else "bulk"
