"""The user's own declarations: which are ranked, what they override, their embeddings; remembered by their bytes.

An editor sends the same list with every goal. Parsing it, hashing two thousand texts and collecting their vectors is
most of a warm request, so the whole outcome is kept by the digest of the list's JSON.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from api.corpus.corpus import Corpus
from api.embedding.embedder import Embedder
from api.retrieval.context import INLINE_BYTES, NewPremise, UnreadList
from api.telemetry.metrics import Metrics
from shared.errors import DeadlinePassed, TextFailed
from shared.model.text import text_digest
from shared.vectors import Vectors

LEAST_LEFT_S = 0.1
"""With less left of its time, a request does not begin again."""
REMEMBERED_BYTES = 64 << 20
"""Ten full lists of 2,048 x 768 float32."""


@dataclass(frozen=True)
class NewPremises:
    """The new premises of a request that are ranked, in its order."""

    names: list[str]
    rows: Vectors
    """Their embeddings, [len(names), dimension]."""
    overridden: NDArray[np.int64]
    """Premise ids of the indexed premises that they stand for, each once."""
    dropped: int
    """How many were too many."""


@dataclass
class _Flight:
    """A list that is being embedded, for all requests that sent it."""

    task: asyncio.Task[NewPremises]
    waiting: int = 0


class NewPremiseLists:
    """New premises against one corpus."""

    def __init__(self, corpus: Corpus, embedder: Embedder, most: int, metrics: Metrics) -> None:
        self._corpus = corpus
        self._embedder = embedder
        self._most = most
        self._metrics = metrics
        self._flights: dict[bytes, _Flight] = {}
        self._lists: LRUCache[bytes, NewPremises] = LRUCache(REMEMBERED_BYTES, getsizeof=_size)

    async def of(self, premises: UnreadList[Sequence[NewPremise]], timeout_s: float) -> NewPremises:
        """
        Raises:
            BadInput: no list of `{"name", "decl"}`.
            PremiseServerError: as `Embedder.embed`; a TextFailed says which declaration it was.
        """
        known = self._lists.get(premises.digest)
        if known is not None:
            self._metrics.count_texts("premises", "list", len(known.names))
        else:
            known = await self._joined(premises, timeout_s)
            if _size(known) <= REMEMBERED_BYTES:
                self._lists[premises.digest] = known
        return known

    async def _joined(self, premises: UnreadList[Sequence[NewPremise]], timeout_s: float) -> NewPremises:
        """A class of students sends the same list in the same minute: it is read and looked up once."""
        give_up = time.monotonic() + timeout_s
        while True:
            left_s = give_up - time.monotonic()
            flight = self._flights.get(premises.digest)
            joined = flight is not None
            if flight is None:
                flight = _Flight(asyncio.create_task(self._embedded(premises, left_s)))
                self._flights[premises.digest] = flight
            flight.waiting += 1
            try:
                async with asyncio.timeout(left_s + LEAST_LEFT_S):  # its own deadline says more, and comes first
                    made = await asyncio.shield(flight.task)
                if joined:
                    self._metrics.count_texts("premises", "joined", len(made.names))
                return made
            except DeadlinePassed:  # that of whoever came first
                if give_up - time.monotonic() < LEAST_LEFT_S:
                    raise
            except TimeoutError:
                given = await asyncio.to_thread(premises.read)
                raise await self._embedder.too_late([premise.decl for premise in given[-self._most :]]) from None
            finally:
                flight.waiting -= 1
                if flight.waiting == 0 or flight.task.done():
                    flight.task.cancel()
                    if self._flights.get(premises.digest) is flight:
                        del self._flights[premises.digest]

    async def _embedded(self, premises: UnreadList[Sequence[NewPremise]], timeout_s: float) -> NewPremises:
        if premises.size <= INLINE_BYTES:
            given = premises.read()
        else:
            given = await asyncio.to_thread(premises.read)
        # Clients list the most relevant last.
        ranked = given[-self._most :]
        try:
            rows = await self._embedder.embed([premise.decl for premise in ranked], "premises", timeout_s)
        except TextFailed as error:
            at = next(i for i, premise in enumerate(ranked) if text_digest(premise.decl) == error.digest)
            place = f"The declaration of new premise {at + len(given) - len(ranked)}"
            raise TextFailed(f"{place} (counted from 0): {error}.") from None
        ids = {i for premise in ranked if (i := self._corpus.premise_ids.get(premise.name)) is not None}
        return NewPremises(
            names=[premise.name for premise in ranked],
            rows=rows,
            overridden=np.array(sorted(ids), np.int64),
            dropped=len(given) - len(ranked),
        )


def _size(known: NewPremises) -> int:
    """Bytes in memory, about."""
    return known.rows.nbytes + 200 * len(known.names) + 1
