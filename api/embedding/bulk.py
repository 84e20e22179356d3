"""Bulk embedding: long lists that no client waits for, behind the requests of clients."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from api.embedding.embedder import Embedder
from shared.deadline import Deadline
from shared.errors import DeadlinePassed, Overloaded, PremiseServerError, Unavailable
from shared.vectors import Vectors

T = TypeVar("T")

PATIENCE_S = 600.0
"""The deadline of one attempt. What was embedded by then is cached, so the next attempt goes on from there."""
BUSY_PAUSE_S = 5
"""The longest pause while workers are busy. Each refusal puts off the time that the next refused client is told."""
AWAY_PAUSE_S = 0.2
"""The pause while Redis or the workers are away; a command goes on soon after they are back."""


def windows(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in parts of `size`; one part at a time leaves room in the queue for the texts of others."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


@dataclass(frozen=True)
class BulkEmbedder:
    """Embeds in the bulk lane, and waits as long as workers are busy or missing."""

    embedder: Embedder
    ttl_s: float
    """Seconds for which the cache keeps the embeddings."""

    async def embed(self, texts: Sequence[str], tell: Callable[[str], None]) -> Vectors:
        """Unit vectors, shape [len(texts), dimension]. `tell` gets a sentence for each reason to wait, once in a row.

        Raises:
            TextFailed: the model cannot embed one of the texts; says its position.
        """
        return await _patiently(
            lambda: self.embedder.embed(texts, "bulk", self.ttl_s, Deadline.after(PATIENCE_S)), tell
        )

    async def embed_anew(self, texts: Sequence[str], tell: Callable[[str], None]) -> Vectors:
        """Embed every text anew by a worker, whatever is cached; otherwise as `embed`."""
        return await _patiently(lambda: self.embedder.embed_anew(texts, Deadline.after(PATIENCE_S)), tell)


async def _patiently(attempt: Callable[[], Awaitable[Vectors]], tell: Callable[[str], None]) -> Vectors:
    last_reason: type[PremiseServerError] | None = None
    while True:
        try:
            return await attempt()
        except (Overloaded, Unavailable, DeadlinePassed) as error:
            if type(error) is not last_reason:
                tell(f"waiting: {error}")
            last_reason = type(error)
            busy = isinstance(error, Overloaded)
            await asyncio.sleep(min(error.retry_after or 1, BUSY_PAUSE_S) if busy else AWAY_PAUSE_S)
