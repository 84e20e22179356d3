"""The queue seen from an API process: texts go in, replies come back on a list of this process's own."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import msgspec
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from shared.deadline import Deadline
from shared.errors import LONGEST_RETRY_S, Overloaded, Unavailable
from shared.redis import keys as redis_keys
from shared.redis.client import BLOCK_S, blocking_pop
from shared.redis.keys import LANES, Lane
from shared.redis.queue_scripts import QueueScripts
from shared.redis.reply import Reply, decode_reply
from shared.redis.worker_status import WorkerStatus, decode_status
from shared.tracing import traceparent

REPLIES_PER_READ = 64
DONE = "done"
LARGEST_SHARE = 0.25
"""Of the texts that may wait, what one request must find room for."""


@dataclass(frozen=True)
class Terms:
    """Terms on which one request's texts are queued."""

    lane: Lane
    ttl_s: float
    """Seconds for which the cache keeps the embeddings."""
    deadline: Deadline
    """The request waits until then. A job that nobody waits for any more is dropped."""


@dataclass(frozen=True)
class Submitted:
    """One chunk, queued."""

    jobs: dict[str, str]
    """Job id by digest, or `DONE` for a text that was embedded a moment ago: the cache has it."""
    joined: int
    """Texts that others had queued before."""
    queued: int
    """Texts of a job of their own."""


@dataclass(frozen=True)
class QueueState:
    """What Redis knows of one fingerprint's queues."""

    texts: dict[Lane, int]
    """Waiting or in progress."""
    workers: list[WorkerStatus]
    """Those alive that have said something about themselves."""
    alive: int


class EmbeddingQueue:
    """Jobs of one fingerprint."""

    def __init__(self, redis: ArqRedis, fingerprint: str, max_inputs: int) -> None:
        self._redis = redis
        self._fingerprint = fingerprint
        self._max_inputs = max_inputs
        self._reply_list = redis_keys.replies(uuid4().hex)
        self._scripts = {lane: QueueScripts(redis, fingerprint, lane) for lane in LANES}

    async def submit(self, texts: Mapping[str, str], terms: Terms, *, wanted: int = 0, needed: int = 0) -> Submitted:
        """Queue one chunk, text by digest; texts that a job embeds already are joined.

        `wanted` texts are still wanted with this chunk's: if there is no room, the time to come again is for all.
        `needed` of them must find room, or at the limit many would each get a piece and none an answer; but never more
        than `LARGEST_SHARE`, for there might never be room for all of a list longer than that.

        Raises:
            Overloaded: too many texts wait. Nothing of this chunk was queued.
            Unavailable: no worker is alive.
        """
        own = uuid4().hex
        reply = await self._submitted(own, texts, terms, wanted, needed)
        if reply[0] == b"no workers":
            # Redis may have lost the workers' signs of life. Wait for the next ones and try once more.
            await asyncio.sleep(1.2 * BLOCK_S)
            reply = await self._submitted(own, texts, terms, wanted, needed)
        status, *owners = reply
        if status == b"no workers":
            raise Unavailable("No worker is alive to embed what is not cached; try again soon.")
        if status == b"overloaded":
            waiting, free_ms, work_ms = map(int, owners)
            wait_s = LONGEST_RETRY_S
            if free_ms >= 0:
                wait_s = await self.retry_after(terms.lane, free_ms / 1000, work_ms / 1000)
            sentence = f"The workers are busy with {waiting} texts; try again in {wait_s} s, what is done stays done."
            raise Overloaded(sentence, wait_s, "queue")
        jobs = {digest: owner.decode() for digest, owner in zip(texts, owners, strict=True)}
        mine = sum(job.startswith(own) for job in jobs.values())
        done = sum(job == DONE for job in jobs.values())
        return Submitted(jobs, joined=len(jobs) - mine - done, queued=mine)

    async def retry_after(self, lane: Lane, free_s: float, work_s: float) -> int:
        """Whole seconds after which one who is refused is told to come again; at least 1.

        There is room after `free_s`, but all who were refused before, by any API process, come first. The work of the
        one who is refused takes `work_s`. While Redis does not answer, nobody knows of the others.
        """
        try:
            wait_s = await self._scripts[lane].promise(int(1000 * free_s), int(1000 * work_s)) / 1000
        except (RedisError, OSError):
            wait_s = min(free_s, LONGEST_RETRY_S)
        return max(1, math.ceil(wait_s))

    async def _submitted(
        self, own: str, texts: Mapping[str, str], terms: Terms, wanted: int, needed: int
    ) -> list[Any]:  # fmt: skip
        """The reply of `submit.lua`."""
        return await self._scripts[terms.lane].submit(
            own,
            texts,
            reply_list=self._reply_list,
            # The only conversion of the deadline: Redis has another clock.
            wait_ms=int(1000 * terms.deadline.left()),
            ttl_s=terms.ttl_s,
            max_inputs=self._max_inputs,
            wanted=wanted,
            needed=min(needed, int(LARGEST_SHARE * self._max_inputs)),
            trace=traceparent(),
        )

    async def replies(self) -> AsyncIterator[Reply]:
        """Replies as they come; ends when none came for half a second.

        Raises:
            redis.RedisError: the connection is gone. What was sent meanwhile stays on the list.
        """
        first = await blocking_pop(self._redis, self._reply_list)
        batch = [] if first is None else [first]
        while batch:
            for data in batch:
                try:
                    yield decode_reply(data)
                except msgspec.DecodeError:
                    continue  # not from a worker of ours; what is missing will be noticed
            batch = await cast(Any, self._redis).lpop(self._reply_list, REPLIES_PER_READ) or []

    async def lost(self, jobs: Mapping[str, Lane]) -> set[str]:
        """Jobs that the queue no longer knows: a worker finished them, or Redis lost them.

        `jobs` has the lane of each job id.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id, lane in jobs.items():
                pipe.zscore(self._scripts[lane].queue, job_id)
            scores = await pipe.execute()
        return {job_id for job_id, score in zip(jobs, scores, strict=True) if score is None}

    async def workers_alive(self) -> int:
        return len(await self._alive())

    async def state(self) -> QueueState:
        async with self._redis.pipeline(transaction=False) as pipe:
            for scripts in self._scripts.values():
                pipe.get(scripts.admitted)
                pipe.exists(scripts.queue)
            counts = await pipe.execute()
        # As in submit.lua: the counter says nothing over an empty queue.
        texts = {lane: int(counts[2 * i] or 0) * counts[2 * i + 1] for i, lane in enumerate(self._scripts)}
        alive = await self._alive()
        keys = [redis_keys.worker_status(self._fingerprint, worker.decode()) for worker in alive]
        said = [decode_status(data) for data in (await self._redis.mget(keys) if keys else []) if data]
        return QueueState(texts, [status for status in said if status], len(alive))

    async def _alive(self) -> list[bytes]:
        seconds, microseconds = await self._redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        alive: list[bytes] = await self._redis.zrangebyscore(redis_keys.workers(self._fingerprint), now_ms, "+inf")
        return alive


def estimated_tokens(text: str) -> int:
    """Rough and cheap: Lean text has about three bytes a token; the worker counts exactly."""
    return 2 + len(text.encode()) // 3


def chunks(texts: Mapping[str, str], max_tokens: int) -> list[dict[str, str]]:
    """Split into parts of about `max_tokens`, each at least one text, so that several workers share them.

    Long texts go together, and short ones: a batch then needs little padding.
    """
    parts: list[dict[str, str]] = []
    room = 0
    for digest, text in sorted(texts.items(), key=lambda item: -len(item[1])):
        cost = estimated_tokens(text)
        if cost > room or not parts:
            parts.append({})
            room = max_tokens
        parts[-1][digest] = text
        room -= cost
    return parts
