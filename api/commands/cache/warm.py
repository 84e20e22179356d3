"""`cache warm`: embed what is not cached yet, behind the requests of others."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from api.commands.own_backend import own_backend
from api.embedding.backend import Backend
from shared.errors import DeadlinePassed, Overloaded, PremiseServerError, TextFailed, Unavailable
from shared.model.directory import open_model
from shared.model.spec import ModelSpec
from shared.model.text import text_digest
from shared.progress import progress
from shared.settings import Settings

WINDOW = 512
"""Texts asked of the workers at a time: the queue keeps room for requests."""
MOST_OF_QUEUE = 4
"""At most one in so many of the texts that the queue admits."""
PATIENCE_S = 600.0
LONGEST_PAUSE_S = 5


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
    own: Backend, texts: Sequence[str], size: int, outcome: Outcome, advance: Callable[[int], None],
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """Embed the texts, `size` at a time, counting into `outcome`; busy or missing workers are waited for."""
    for start in range(0, len(texts), size):
        given = texts[start : start + size]
        by_digest = {text_digest(text): text for text in given}
        there = await own.cache.get(list(by_digest))
        outcome.cached += len(there)
        missing = {digest: text for digest, text in by_digest.items() if digest not in there}
        while missing:
            try:
                # As premises, states too: those that a person waits for go before.
                await own.embedder.embed(list(missing.values()), "premises", PATIENCE_S)
                outcome.embedded += len(missing)
                break
            except TextFailed as error:
                outcome.failed[error.digest] = str(error)
                if missing.pop(error.digest, None) is None:
                    raise PremiseServerError(f"The workers gave up on a text that was not sent: {error}") from None
            except (Overloaded, Unavailable, DeadlinePassed) as error:
                tell(f"waiting: {error}")
                await asyncio.sleep(min(error.retry_after or 1, LONGEST_PAUSE_S))
        advance(len(given))


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
        with progress("embedding", len(texts), console) as advance:
            await warm(own, texts, window(settings.embed_service_max_concurrent_inputs), outcome, advance, tell)
