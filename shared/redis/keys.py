"""Every Redis key, in one place: also those that the Lua scripts make, which get their prefixes from here.

A *fingerprint* is `{model name}@{revision}:{dtype}`: vectors of one fingerprint are comparable, so caches
and queues are kept apart by it and several models can share both Redis instances.
"""

from typing import Literal

from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix

Lane = Literal["interactive", "bulk"]
"""Each lane has a queue of its own. A person waits for a text of the interactive lane; bulk work goes behind."""

LANES: tuple[Lane, ...] = ("interactive", "bulk")

CACHE_PREFIX = "emb:"

BODY_PREFIX = job_key_prefix
"""arq's format. Before a job id: the job's body, msgpack; TTL JOB_TTL_MS."""
TRIES_PREFIX = retry_key_prefix
"""arq's format. Before a job id: how often a worker has claimed the job; TTL JOB_TTL_MS."""
LEASE_PREFIX = in_progress_key_prefix
"""arq's format. Before a job id: the worker that holds the job; TTL LEASE_MS."""
WAITERS_PREFIX = "waiters:"
"""Before a job id: hash of reply list -> deadline (ms since 1970) of those who get this job's reply; TTL JOB_TTL_MS."""

JOB_PREFIXES = (BODY_PREFIX, TRIES_PREFIX, LEASE_PREFIX, WAITERS_PREFIX)
"""Every key of one job is one of these before the job's id. Each script on jobs gets them first, in this order."""


def embedding(fingerprint: str, digest: str) -> str:
    """Cache instance: one text's embedding, raw little-endian float32; TTL STATE_TTL or PREMISE_TTL (s)."""
    return f"{CACHE_PREFIX}{fingerprint}:{digest}"


def queue(fingerprint: str, lane: Lane) -> str:
    """Sorted set of job ids; score = earliest time of the next claim in ms, so a lease is a score ahead."""
    return f"queue:{fingerprint}:{lane}"


def wake(queue_name: str) -> str:
    """List of tokens, one a job; idle workers block on it."""
    return f"{queue_name}:wake"


def admitted(queue_name: str) -> str:
    """Counter of texts in the queue or in progress; changed only with the sorted set, in one script."""
    return f"{queue_name}:admitted"


def flight(queue_name: str, digest: str) -> str:
    """Makes single-flight hold across API processes: the id of the job that embeds this text now, TTL
    FLIGHT_TTL_MS, and once the text is cached the word `done`, TTL DONE_TTL_MS."""
    return f"{queue_name}:flight:{digest}"


def replies(api_id: str) -> str:
    """List of replies to one API process, msgpack; TTL REPLY_TTL_MS."""
    return f"reply:{api_id}"


def rate(address: str, minute: int) -> str:
    """Queue instance: states that a client asked for in that minute since 1970; TTL two minutes."""
    return f"rate:{address}:{minute}"


def drained(queue_name: str) -> str:
    """Prefix of counters of texts done, one for each DRAIN_MS since 1970; TTL twice that."""
    return f"{queue_name}:drained:"


def promised(queue_name: str) -> str:
    """When (ms since 1970) the last one of those who were refused was told to come again; TTL until then."""
    return f"{queue_name}:promised"


def workers(fingerprint: str) -> str:
    """Sorted set of worker ids; score = time in ms until which the worker counts as alive."""
    return f"workers:{fingerprint}"


def worker_status(fingerprint: str, worker_id: str) -> str:
    """JSON of `WorkerStatus`; TTL WORKER_STATUS_TTL_MS."""
    return f"worker:{fingerprint}:{worker_id}"


def worker_health(fingerprint: str, worker_id: str, lane: Lane) -> str:
    """arq's health line of one worker's lane; lives for seconds."""
    return f"health:{fingerprint}:{worker_id}:{lane}"


JOB_TTL_MS = 600_000
"""Job bodies and waiters outlive any request, and no more."""
FLIGHT_TTL_MS = 600_000
DONE_TTL_MS = 1_000
"""How long a text that was just cached is not queued again; longer than any request takes from cache to queue."""
REPLY_TTL_MS = 60_000
DRAIN_MS = 5_000
LEASE_MS = 1_000
"""A claimed job is free again this long after its worker last renewed it."""
RENEW_MS = 250
"""How often a worker renews its leases and its sign of life; without jobs it gives one whenever it looks for some."""
WORKER_STATUS_EVERY_MS = 2_000
WORKER_STATUS_TTL_MS = 10_000
WORKER_TTL_MS = 1_500
"""A worker counts as gone this long after its last sign of life."""
