"""The queue's Lua scripts as functions: what each takes and answers stands here and in `lua/`, nowhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from arq.connections import ArqRedis

from shared.errors import LONGEST_RETRY_S
from shared.model.text import read_part
from shared.redis import keys as redis_keys
from shared.redis.client import script
from shared.redis.keys import JOB_PREFIXES, Lane

FUNCTION = "embed"
"""What arq calls the function of a job."""


@dataclass(frozen=True)
class Claimed:
    """A job that a worker holds from now on."""

    job_id: str
    body: bytes
    """As `shared.redis.job` decodes it; empty if it is lost."""
    tries: int
    given_up: bool
    """Whether nobody waits for it any more."""
    at_ms: int
    """Now, on the clock that the job's times are of."""

    @property
    def texts(self) -> int:
        """How many it has, which its id says too; `submit.lua` makes it."""
        count = self.job_id.rpartition("-")[2]
        return int(count) if count.isdecimal() else 0


class QueueScripts:
    """Of one queue: one fingerprint, one lane. Each call is one round trip, in which nobody else acts."""

    def __init__(self, redis: ArqRedis, fingerprint: str, lane: Lane) -> None:
        self.queue = redis_keys.queue(fingerprint, lane)
        self.wake = redis_keys.wake(self.queue)
        self.admitted = redis_keys.admitted(self.queue)
        self._promised = redis_keys.promised(self.queue)
        self._workers = redis_keys.workers(fingerprint)
        self._flight_prefix = redis_keys.flight(self.queue, "")
        self._drained_prefix = redis_keys.drained(self.queue)
        self._submit = script(redis, "submit")
        self._promise = script(redis, "promise")
        self._claim = script(redis, "claim")
        self._renew = script(redis, "renew")
        self._finish = script(redis, "finish")
        self._give_back = script(redis, "give_back")

    async def submit(
        self, job_id: str, texts: Mapping[str, str], *, reply_list: str, wait_ms: int, ttl_s: float, max_inputs: int,
        wanted: int, needed: int, trace: str,
    ) -> list[Any]:  # fmt: skip
        """Queue the texts by digest that no job embeds yet; the reply is as `submit.lua` says."""
        reply: list[Any] = await self._submit(
            keys=[self.queue, self.wake, self.admitted, self._workers],
            args=[
                *JOB_PREFIXES,
                job_id,
                FUNCTION,
                reply_list,
                wait_ms,
                ttl_s,
                max_inputs,
                max(wanted, len(texts)),
                needed,
                redis_keys.JOB_TTL_MS,
                redis_keys.FLIGHT_TTL_MS,
                self._flight_prefix,
                self._drained_prefix,
                redis_keys.DRAIN_MS,
                trace,
                # One argument: thousands would take redis-py ten times as long to send.
                msgspec.msgpack.encode([list(texts), [read_part(text) for text in texts.values()]]),
            ],
        )
        return reply

    async def promise(self, free_ms: int, work_ms: int) -> int:
        """Milliseconds after which one who is refused is told to come again.

        There is room after `free_ms`. All who were told before come first; this one's work takes `work_ms`.
        """
        wait_ms: int = await self._promise(keys=[self._promised], args=[free_ms, work_ms, 1000 * LONGEST_RETRY_S])
        return wait_ms

    async def claim(self, worker_id: str, most: int, *, woken: bool) -> list[Claimed]:
        """Lease up to `most` jobs; `woken` by a token of the wake list, or not."""
        claimed = await self._claim(
            keys=[self.queue, self.wake, self._workers],
            args=[
                *JOB_PREFIXES,
                worker_id,
                redis_keys.WORKER_TTL_MS,
                most,
                redis_keys.LEASE_MS,
                redis_keys.JOB_TTL_MS,
                int(woken),
            ],
        )
        return [Claimed(job.decode(), body, int(tries), bool(up), now) for job, body, tries, up, now in claimed]

    async def renew(self, worker_id: str, jobs: Sequence[str]) -> list[str]:
        """Hold these for another while; those of them that nobody waits for any more."""
        abandoned = await self._renew(
            keys=[self.queue, self._workers],
            args=[
                *JOB_PREFIXES,
                worker_id,
                redis_keys.WORKER_TTL_MS,
                redis_keys.LEASE_MS,
                msgspec.msgpack.encode(jobs),
            ],
        )
        return [job.decode() for job in abandoned]

    async def finish(self, job_id: str, reply: bytes, cached: Sequence[str], others: Sequence[str]) -> None:
        """Send the reply, and forget the job; digests of its texts, those that the cache has now and the others."""
        await self._finish(
            keys=[self.queue, self.admitted],
            args=[
                *JOB_PREFIXES,
                job_id,
                reply,
                redis_keys.REPLY_TTL_MS,
                self._flight_prefix,
                redis_keys.DONE_TTL_MS,
                self._drained_prefix,
                redis_keys.DRAIN_MS,
                msgspec.msgpack.encode([cached, others]),
            ],
        )

    async def give_back(self, job_id: str, worker_id: str) -> None:
        """Let another worker have a job that this one will not finish."""
        await self._give_back(keys=[self.queue, self.wake], args=[*JOB_PREFIXES, job_id, worker_id])
