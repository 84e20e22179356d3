"""The model's files and the workers that have it loaded."""

from collections.abc import AsyncIterator

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared.errors import StartupError
from shared.finding import Finding
from shared.model.directory import open_model
from shared.model.files import model_files
from shared.model.hub import NotDownloaded, model_download_bytes
from shared.model.spec import ModelSpec
from shared.redis import keys as redis_keys
from shared.redis.client import connect, disconnect
from shared.settings import Settings

MODEL, WORKERS = "model", "workers"


def model_findings(settings: Settings, *, weights: bool) -> list[Finding]:
    """How the model's configuration is read; nothing is downloaded."""
    try:
        model = open_model(ModelSpec.of(settings), settings.data_dir, weights=weights, local_only=True)
    except NotDownloaded:
        return [_not_yet(settings, weights)]
    except StartupError as error:
        return [Finding("problem", MODEL, str(error), "Correct MODEL_ID or mend the directory.")]
    lower = ", lower-cased" if model.do_lower_case else ""
    sentence = (
        f"{model.fingerprint(settings.dtype)}: {model.dimension} dimensions, {'+'.join(model.pooling)} pooling, "
        f"{model.max_seq_length} tokens at most{lower}."
    )
    findings = [Finding("ok", MODEL, sentence)]
    if model.max_seq_length > settings.max_batch_tokens:
        sentence = f"A text of {model.max_seq_length} tokens does not fit MAX_BATCH_TOKENS={settings.max_batch_tokens}."
        findings.append(Finding("warning", MODEL, sentence, "Raise MAX_BATCH_TOKENS to at least that."))
    return findings


def _not_yet(settings: Settings, weights: bool) -> Finding:
    name = f"{settings.model_id} at {settings.model_revision!r}"
    try:
        size = model_download_bytes(settings.model_id, settings.model_revision, model_files(weights), settings.data_dir)
    except StartupError as error:
        sentence = f"Not in DATA_DIR yet, and not to be had: {error}"
        return Finding("problem", MODEL, sentence, "Correct MODEL_ID and MODEL_REVISION, or let this machine connect.")
    sentence = f"{name} is not in DATA_DIR yet; the first start downloads {size / 1e6:,.0f} MB."
    return Finding("warning", MODEL, sentence, "Start it once while this machine is connected.")


async def worker_findings(settings: Settings) -> list[Finding]:
    """Who is alive, for this model and for others."""
    try:
        wanted = open_model(ModelSpec.of(settings), settings.data_dir, weights=False, local_only=True).fingerprint(
            settings.dtype
        )
    except StartupError:
        wanted = ""
    redis = connect(settings.redis_url)
    try:
        alive = {fingerprint: count async for fingerprint, count in _alive(redis)}
    except (RedisError, OSError):
        return [Finding("problem", WORKERS, "Without the queue's Redis no worker can be seen.", "Mend that first.")]
    finally:
        await disconnect(redis)
    others = ", ".join(f"{count} of {name}" for name, count in sorted(alive.items()) if name != wanted)
    if wanted in alive:
        more = f" Also {others}." if others else ""
        return [Finding("ok", WORKERS, f"{alive[wanted]} alive for {wanted}.{more}")]
    if others:
        sentence = f"None is alive for {wanted or settings.model_id}, but there are: {others}."
        advice = "Give API and workers the same MODEL_ID, MODEL_REVISION, MODEL_NAME and DTYPE."
        return [Finding("warning", WORKERS, sentence, advice)]
    sentence = f"None is alive for {wanted or settings.model_id}; only what is cached can be answered."
    return [Finding("warning", WORKERS, sentence, "Start one with `premise-server worker`, or all with `serve`.")]


async def _alive(redis: ArqRedis) -> AsyncIterator[tuple[str, int]]:
    """Fingerprints that have workers, and how many; a sign of life is the time until which it counts."""
    prefix = redis_keys.workers("")
    async for key in redis.scan_iter(f"{prefix}*", count=1000):
        count = await redis.zcount(key, 1000 * (await redis.time())[0], "+inf")  # its clock, not this machine's
        if count:
            yield key.decode().removeprefix(prefix), count
