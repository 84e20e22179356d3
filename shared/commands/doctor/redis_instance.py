"""A Redis as it says it is: version, memory, policy, persistence, how quickly it answers."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arq.connections import ArqRedis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from shared.commands.redis_server import OLDEST
from shared.finding import Finding
from shared.redis.client import without_password

PINGS = 20
SLOW_MS = 5.0
"""Of a PING. A request asks Redis several times, one after the other."""
NEARLY_FULL = 0.9


@dataclass(frozen=True)
class Instance:
    """One of the two roles' Redis, reached."""

    subject: str
    setting: str
    info: Mapping[str, Any]
    saves: bool | None
    """Whether it keeps snapshots or a log of writes; None if it does not tell."""
    ping_ms: float

    @property
    def run_id(self) -> str:
        return str(self.info.get("run_id", ""))

    @property
    def policy(self) -> str:
        return str(self.info.get("maxmemory_policy", "unknown"))

    @property
    def maxmemory(self) -> int:
        """Bytes; 0 = no limit."""
        return int(self.info.get("maxmemory", 0))

    @property
    def used(self) -> int:
        return int(self.info.get("used_memory", 0))


async def inspect(redis: ArqRedis, subject: str, setting: str) -> Instance:
    """
    Raises:
        RedisError, OSError: it cannot be reached, or may not be asked.
    """
    await redis.ping()
    times = []
    for _ in range(PINGS):
        start = time.perf_counter()
        await redis.ping()
        times.append(1000 * (time.perf_counter() - start))
    info: dict[str, Any] = await redis.info()
    return Instance(subject, setting, info, await _saves(redis, info), statistics.median(times))


def unreachable(subject: str, setting: str, url: str, error: Exception) -> Finding:
    """What a failed `inspect` means."""
    where, reason = without_password(url), str(error).rstrip(".") or type(error).__name__
    refused = isinstance(error, AuthenticationError | NoPermissionError) or "NOAUTH" in reason
    advice = (
        f"Put the right user and password into {setting} (redis://user:password@host:6379/0), "
        "or allow that user every command and key."
        if refused
        else f"Start that Redis, or correct {setting}."
    )
    did = "refuses" if refused else "does not answer"
    return Finding("problem", subject, f"Redis at {where} ({setting}) {did}: {reason}.", advice)


def general(instance: Instance, url: str) -> list[Finding]:
    """Of either role: version, memory, latency."""
    info, subject = instance.info, instance.subject
    version = str(info.get("redis_version", "0"))
    limit = f"of {mib(instance.maxmemory)}" if instance.maxmemory else "without limit"
    findings = [
        Finding(
            "ok",
            subject,
            f"Redis {version} at {without_password(url)} answers in {instance.ping_ms:.2f} ms; "
            f"{mib(instance.used)} used {limit}, policy {instance.policy}.",
        )
    ]
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        sentence = f"Redis {version} is too old for the queue's commands."
        findings.append(Finding("problem", subject, sentence, f"Install Redis {oldest} or newer."))
    if instance.ping_ms > SLOW_MS:
        sentence = f"Redis takes {instance.ping_ms:.0f} ms to answer, and a request asks it several times."
        findings.append(Finding("warning", subject, sentence, "Move it closer to API and workers."))
    return findings


def mib(size: int) -> str:
    return f"{size / (1 << 20):,.0f} MiB"


async def _saves(redis: ArqRedis, info: Mapping[str, Any]) -> bool | None:
    if info.get("aof_enabled"):
        return True
    try:
        config: dict[str, str] = await redis.config_get("save")
    except RedisError:  # managed instances and narrow ACLs do not allow it
        return None
    return bool(config.get("save"))
