"""`cache find` and `cache show`: where a text is cached, and what is under a key."""

from arq.connections import ArqRedis
from rich.console import Console

from api.commands.cache.entry import Entry, any_model, read_entry
from api.commands.cache.inventory import keys_like
from api.commands.cache.nearest import nearest
from shared.errors import PremiseServerError
from shared.model.text import text_digest
from shared.progress import progress
from shared.redis.keys import CACHE_PREFIX
from shared.settings import Settings

SHOWN_VALUES = 8


def say(console: Console, line: str) -> None:
    """A line as it is, however long: keys are for copying."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


async def find(redis: ArqRedis, text: str, console: Console, waiting: Console) -> None:
    """Print the text's digest and the keys that it is cached under, for any model."""
    digest = text_digest(text)
    say(console, f"digest   {digest}")
    found: set[bytes] = set()
    with progress("looking at keys", await redis.dbsize(), waiting) as advance:
        async for keys in keys_like(redis, any_model(digest), advance):
            found.update(keys)
    for key in sorted(found):
        entry = await read_entry(redis, key)
        if entry is not None:
            say(console, f"key      {key.decode(errors='replace')}")
            say(console, f"         {_description(entry)}")
    if not found:
        say(console, "This text is not cached. It must be the same to the last space; of a declaration that is")
        say(
            console,
            "`kind name args : type`, two spaces before the colon without args, after `/-- doc -/` if it has one.",
        )


async def show(redis: ArqRedis, key: str, count: int, settings: Settings, console: Console) -> None:
    """Print what is under a key, and the `count` indexed premises nearest to it.

    Raises:
        PremiseServerError: nothing is there.
    """
    full = key if key.startswith(CACHE_PREFIX) else f"{CACHE_PREFIX}{key}"
    entry = await read_entry(redis, full.encode())
    if entry is None:
        raise PremiseServerError(f"Nothing is cached under {full}.")
    say(console, f"model    {entry.fingerprint}")
    say(console, f"digest   {entry.digest}")
    say(console, f"value    {_description(entry)}")
    values = ", ".join(f"{value:.6g}" for value in entry.vector[:SHOWN_VALUES])
    say(console, f"starts   {values}")
    if count:
        for line in nearest(entry, count, settings):
            say(console, line)


def _description(entry: Entry) -> str:
    if not len(entry.vector):
        return f"no row of float32: the server does not use it, {entry.lifetime}"
    return f"{len(entry.vector)} dimensions, norm {entry.norm:.6f}, {entry.lifetime}"
