"""`premise-server cache`: the commands."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from arq.connections import ArqRedis
from redis.exceptions import RedisError
from rich.console import Console

from api.commands.cache import flush as flushing
from api.commands.cache import lookup, stats
from api.commands.cache.texts import read_texts
from api.commands.cache.warm import Outcome, warm_all
from shared.errors import PremiseServerError
from shared.progress import progress
from shared.redis.client import connect, disconnect, require
from shared.settings import Settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look into the embedding cache (CACHE_REDIS_URL), warm it, or remove a model from it.",
)

PATIENCE_S = 1.0

AsJson = Annotated[bool, typer.Option("--json", help="Numbers for a machine.")]
Text = Annotated[str, typer.Argument(help="The text, exactly; - reads it from standard input, less a last newline.")]
Key = Annotated[str, typer.Argument(help="A key, as `find` and redis-cli print it.")]
Nearest = Annotated[int, typer.Option(min=0, max=1000, help="How many indexed premises to compare with.")]
File = Annotated[typer.FileBinaryRead, typer.Argument(help="Texts, a line each; - is standard input.")]
States = Annotated[bool, typer.Option("--states", help="The lines are goals, not declarations.")]
ModelName = Annotated[
    str | None, typer.Option("--model", help="A model's name, NAME@REVISION, or NAME@REVISION:DTYPE.")
]
All = Annotated[bool, typer.Option("--all", help="Every model.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command("stats")
def stats_command(as_json: AsJson = False) -> None:
    """Count embeddings by model: memory, time left, hits, evictions.

    Memory and time left are measured on a sample of each model.
    """

    async def command() -> stats.CacheStats:
        async with _cache(load_settings()) as redis:
            return await stats.cache_stats(redis, Console(stderr=True))

    counted = asyncio.run(command())
    if as_json:
        print(stats.as_json(counted))
    else:
        stats.show(counted, Console())


@app.command()
def find(text: Text) -> None:
    """Print the keys that a text is cached under.

    The digest is that of the exact text. A declaration's text is `kind name args : type`, after a line `/-- doc -/` if
    it has one; a goal's is what Lean sent.
    """

    async def command() -> None:
        async with _cache(load_settings()) as redis:
            await lookup.find(redis, _given(text), Console(), Console(stderr=True))

    asyncio.run(command())


@app.command()
def show(key: Key, nearest: Nearest = 5) -> None:
    """Print what is cached under a key, and the indexed premises nearest to it."""

    async def command() -> None:
        settings = load_settings()
        async with _cache(settings) as redis:
            await lookup.show(redis, key, nearest, settings, Console())

    asyncio.run(command())


@app.command()
def warm(file: File, states: States = False) -> None:
    """Embed what is not cached yet; requests go before, and Ctrl-C keeps what is done.

    A line is a text, or JSON: a string, {"name", "decl"}, {"state"}, or a line of a data repository's Declarations; in
    a file named .jsonl always JSON. Everything is kept for PREMISE_TTL.
    """
    texts = list(dict.fromkeys(read_texts(file, file.name, states=states)))
    outcome = Outcome()
    try:
        asyncio.run(warm_all(load_settings(), texts, outcome, Console(stderr=True)))
    finally:
        print(outcome.sentence())
    for digest, reason in outcome.failed.items():
        print(f"{digest} failed: {reason}", file=sys.stderr)
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def flush(model: ModelName = None, every: All = False, yes: Yes = False) -> None:
    """Remove cached embeddings of a model; asks first. Other keys stay.

    API processes keep what is in their own memory (LRU_CACHE_SIZE texts each) until they are restarted.
    """
    if (model is None) is not every:
        raise PremiseServerError("Say which embeddings: --model NAME, or --all.")
    asyncio.run(_flush(model, yes))


async def _flush(name: str | None, yes: bool) -> None:
    waiting = Console(stderr=True)
    async with _cache(load_settings()) as redis:
        with progress("counting keys", await redis.dbsize(), waiting) as advance:
            models = await flushing.to_flush(redis, name, advance)
        for model in models:
            print(f"{model.keys:,} of {model.fingerprint}")
        if not models:
            print(f"Nothing of {name} is cached." if name else "Nothing is cached.")
            return
        if not yes and not sys.stdin.isatty():
            raise PremiseServerError("Nothing was removed: without a terminal to ask on, say --yes.")
        if not yes and not typer.confirm("Remove them?"):
            print("Nothing was removed.")
            return
        with progress("removing", await redis.dbsize(), waiting) as advance:
            removed = await flushing.flush(redis, name, advance)
    print(f"{removed:,} removed. API processes keep what is in their own memory until they are restarted.")


@asynccontextmanager
async def _cache(settings: Settings) -> AsyncIterator[ArqRedis]:
    redis = connect(settings.cache_url)
    try:
        await require(redis, settings.cache_url, "CACHE_REDIS_URL", PATIENCE_S)
        yield redis
    finally:
        await disconnect(redis)


def _given(text: str) -> str:
    return sys.stdin.read().removesuffix("\n") if text == "-" else text


def main() -> int:
    try:
        app(prog_name="premise-server cache")
    except PremiseServerError as error:
        print(f"premise-server cache: {error}", file=sys.stderr)
    except (RedisError, OSError) as error:
        print(f"premise-server cache: Redis or a file failed: {error}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
