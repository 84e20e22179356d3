"""A request, top to bottom: embed what is not cached, find what is accessible, search, score, merge."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.accessible import PremiseMask, accessible_premises, visible_premises
from api.corpus import Corpus
from api.embedder import Embedder
from api.index import PremiseIndex
from api.ranking import Ranked, merge, new_premise_scores
from api.request import Context, NewPremise
from shared.errors import DeadlinePassed, TextFailed
from shared.text_digest import text_digest

logger = logging.getLogger(__name__)

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Retrieval:
    """Answers, one a state, and how many new premises were too many to rank."""

    ranked: list[Ranked]
    dropped: int


@dataclass(frozen=True)
class Retriever:
    """Answers requests against one corpus."""

    corpus: Corpus
    index: PremiseIndex
    embedder: Embedder
    threads: Executor
    max_k: int
    max_new_premises: int
    timeout_s: float

    async def retrieve(self, states: Sequence[str], context: Context) -> Retrieval:
        """The best premises for each state.

        Raises:
            PremiseServerError: with the HTTP status that fits.
        """
        give_up = time.monotonic() + self.timeout_s
        k = min(context.k, self.max_k)
        # Clients list the most relevant last.
        new = context.new_premises[-self.max_new_premises :]
        dropped = len(context.new_premises) - len(new)
        if dropped:
            logger.warning("%d new premises dropped, %d ranked", dropped, len(new))
        if k <= 0:
            return Retrieval([[] for _ in states], dropped)

        loop = asyncio.get_running_loop()
        accessible = loop.run_in_executor(self.threads, self._accessible, context, new)
        state_rows, new_rows = await self._embed(states, new)
        mask = await accessible
        try:
            async with asyncio.timeout(give_up - time.monotonic()):
                ranked = [
                    await loop.run_in_executor(self.threads, self._rank, state, mask, new_rows, new, k)
                    for state in state_rows
                ]
        except TimeoutError:
            raise DeadlinePassed(f"The search did not end within {self.timeout_s:g} s; try again.") from None
        return Retrieval(ranked, dropped)

    async def _embed(self, states: Sequence[str], new: Sequence[NewPremise]) -> tuple[Vectors, Vectors]:
        decls = [premise.decl for premise in new]
        try:
            async with asyncio.TaskGroup() as group:
                state_rows = group.create_task(self.embedder.embed(states, "state", self.timeout_s))
                new_rows = group.create_task(self.embedder.embed(decls, "premises", self.timeout_s))
        except ExceptionGroup as errors:
            # The one that ended the group; the other task was only cancelled, or failed in the same moment.
            error = errors.exceptions[0]
            if isinstance(error, TextFailed):
                raise TextFailed(f"{_place(error, states, decls)}: {error}.") from None
            raise error from None
        return state_rows.result(), new_rows.result()

    def _accessible(self, context: Context, new: Sequence[NewPremise]) -> PremiseMask:
        mask = accessible_premises(self.corpus, context.imported_modules, context.local_premises)
        if context.caller_in_module_system:
            mask &= visible_premises(self.corpus, context.imported_all_modules)
        # A new premise stands for the indexed one of the same name.
        overridden = [i for premise in new if (i := self.corpus.premise_ids.get(premise.name)) is not None]
        mask[overridden] = False
        return mask

    def _rank(
        self,
        state: NDArray[np.float32],
        mask: PremiseMask,
        new_rows: Vectors,
        new: Sequence[NewPremise],
        k: int,
    ) -> Ranked:
        indexed = self.index.search(state, mask, k)
        scores = new_premise_scores(state, new_rows)
        return merge(indexed, self.corpus.names, scores, [premise.name for premise in new], k)


def _place(error: TextFailed, states: Sequence[str], decls: Sequence[str]) -> str:
    """Which text of the request it was, without repeating it."""
    for i, state in enumerate(states):
        if text_digest(state) == error.digest:
            return "The state" if len(states) == 1 else f"State {i}"
    i = next(i for i, decl in enumerate(decls) if text_digest(decl) == error.digest)
    return f"The declaration of new premise {i} (counted from 0, of those ranked)"
