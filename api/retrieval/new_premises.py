"""The user's own declarations: which are ranked, what they override, their embeddings; remembered by their bytes.

An editor sends the same list with every goal. Parsing it, hashing two thousand texts and collecting their vectors is
most of a warm request, so the whole outcome is kept by the digest of the list's JSON.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from api.corpus.corpus import Corpus
from api.embedding.embedder import Embedder
from api.embedding.flights import Flights
from api.retrieval.context import INLINE_BYTES, NewPremise, UnreadList
from api.telemetry.metrics import Metrics
from shared.deadline import Deadline
from shared.errors import DeadlinePassed, TextFailed
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


class NewPremiseLists:
    """New premises against one corpus."""

    def __init__(self, corpus: Corpus, embedder: Embedder, most: int, ttl_s: float, metrics: Metrics) -> None:
        self._corpus = corpus
        self._embedder = embedder
        self._most = most
        self._ttl_s = ttl_s
        self._metrics = metrics
        self._flights: Flights[bytes, NewPremises] = Flights()
        self._lists: LRUCache[bytes, NewPremises] = LRUCache(REMEMBERED_BYTES, getsizeof=_size)

    async def of(self, premises: UnreadList[Sequence[NewPremise]], deadline: Deadline) -> NewPremises:
        """
        Raises:
            BadInput: no list of `{"name", "decl"}`.
            PremiseServerError: as `Embedder.embed`; a TextFailed says which declaration it was.
        """
        known = self._lists.get(premises.digest)
        if known is not None:
            self._metrics.count_texts("bulk", "list", len(known.names))
        else:
            known = await self._joined(premises, deadline)
            if _size(known) <= REMEMBERED_BYTES:
                self._lists[premises.digest] = known
        return known

    async def _joined(self, premises: UnreadList[Sequence[NewPremise]], deadline: Deadline) -> NewPremises:
        """A class of students sends the same list in the same minute: it is read and looked up once."""
        while True:
            joined = premises.digest in self._flights
            try:
                # The embedder has the deadline itself and says more, so its error comes first.
                async with deadline.later(LEAST_LEFT_S).timeout():
                    embedded = await self._flights.share(premises.digest, lambda: self._embedded(premises, deadline))
                if joined:
                    self._metrics.count_texts("bulk", "joined", len(embedded.names))
                return embedded
            except DeadlinePassed:  # that of whoever came first
                if deadline.left() < LEAST_LEFT_S:
                    raise
            except TimeoutError:
                given = await asyncio.to_thread(premises.read)
                raise await self._embedder.too_late([premise.decl for premise in given[-self._most :]]) from None

    async def _embedded(self, premises: UnreadList[Sequence[NewPremise]], deadline: Deadline) -> NewPremises:
        if premises.size <= INLINE_BYTES:
            given = premises.read()
        else:
            given = await asyncio.to_thread(premises.read)
        # Clients list the most relevant last.
        ranked = given[-self._most :]
        try:
            rows = await self._embedder.embed([premise.decl for premise in ranked], "bulk", self._ttl_s, deadline)
        except TextFailed as error:
            position = len(given) - len(ranked) + error.position
            raise TextFailed(
                f"The declaration of new premise {position} (counted from 0): {error}.", position
            ) from None
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
