"""`cache warm`: embed what is not cached yet, behind the requests of others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from api.commands.own_backend import own_backend
from api.embedding.bulk import BulkEmbedder, windows
from shared.errors import TextFailed
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
from shared.model.text import text_digest
from shared.progress import progress
from shared.redis.embedding_cache import EmbeddingCache
from shared.settings import Settings

WINDOW = 512
"""Texts asked of the workers at a time: the queue keeps room for requests."""
MOST_OF_QUEUE = 4
"""At most one in so many of the texts that the queue admits."""


@dataclass
class Outcome:
    """Counts of distinct texts."""

    cached: int = 0
    embedded: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by digest."""

    def sentence(self) -> str:
        failed = f"{len(self.failed)} failed" if self.failed else "none failed"
        return f"{self.cached:,} were cached already, {self.embedded:,} were embedded, {failed}."


def window(max_inputs: int) -> int:
    """How many texts to ask for at a time, of a queue that admits `max_inputs`."""
    return max(1, min(WINDOW, max_inputs // MOST_OF_QUEUE))


async def warm(
    bulk: BulkEmbedder, cache: EmbeddingCache, texts: Sequence[str], size: int, outcome: Outcome,
    advance: Callable[[int], None], tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Embed the texts, `size` at a time, counting into `outcome`; busy or missing workers are waited for."""
    for part in windows(texts, size):
        by_digest = {text_digest(text): text for text in part}
        cached = await cache.get(list(by_digest))
        outcome.cached += len(cached)
        missing = [text for digest, text in by_digest.items() if digest not in cached]
        while missing:
            try:
                await bulk.embed(missing, tell)
                outcome.embedded += len(missing)
                break
            except TextFailed as error:
                outcome.failed[text_digest(missing.pop(error.position))] = str(error)
        advance(len(part))


async def warm_all(settings: Settings, texts: Sequence[str], outcome: Outcome, console: Console) -> None:
    """Embed them through the settings' queue; progress goes to `console`.

    Raises:
        StartupError: there is no Redis or no model.
    """
    model = open_model(ModelSpec.of(settings), settings.data_dir, weights=False)
    told = ""

    def tell(sentence: str) -> None:
        nonlocal told
        if sentence != told:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
        told = sentence

    async with own_backend(settings, model) as own:
        bulk = BulkEmbedder(own.embedder, settings.premise_ttl)
        size = window(settings.embed_service_max_concurrent_inputs)
        with progress("embedding", len(texts), console) as advance:
            await warm(bulk, own.cache, texts, size, outcome, advance, tell)
