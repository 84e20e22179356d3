"""One job: the texts of a chunk, as the queue holds them until a worker claims them."""

import msgspec


class Job(msgspec.Struct, frozen=True):
    """The arguments of a job; `submit.lua` writes them."""

    digests: list[str]
    texts: list[str]
    """In the order of `digests`."""
    ttl_s: float
    """Seconds for which the cache keeps the embeddings."""
    trace: str
    """The `traceparent` of the request that queued the job; empty without tracing."""


class JobBody(msgspec.Struct, frozen=True):
    """A job in arq's format, whose other fields are not read."""

    job: Job = msgspec.field(name="k")
    queued_ms: int = msgspec.field(name="et")
    """When it was queued, in ms since 1970 on Redis' clock."""


def decode_body(body: bytes) -> JobBody:
    """
    Raises:
        msgspec.ValidationError, msgspec.DecodeError: the bytes are no job of ours.
    """
    return msgspec.msgpack.decode(body, type=JobBody)
