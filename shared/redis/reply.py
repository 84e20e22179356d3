"""A worker's reply for one job."""

from collections.abc import Mapping

import msgspec
import numpy as np

from shared.vectors import Vector, Vectors


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """Embeddings of a job's texts, or why there are none."""

    job_id: str
    digests: list[str]
    """Digests of the texts that were embedded."""
    vectors: bytes
    """Their embeddings, little-endian float32, one row for each of `digests`."""
    errors: dict[str, str]
    """A sentence for each text that failed, by digest."""
    cached: bool
    """True if the embeddings are in the cache now."""

    @classmethod
    def of(cls, job_id: str, vectors: Mapping[str, Vector], errors: Mapping[str, str], *, cached: bool) -> "Reply":
        """The reply with an embedding or a sentence by digest; texts that have neither were dropped."""
        rows = b"".join(np.asarray(vector, "<f4").tobytes() for vector in vectors.values())
        return cls(job_id, list(vectors), rows, dict(errors), cached)

    def rows(self, dimension: int) -> Vectors:
        """The embeddings, shape [len(digests), dimension].

        Raises:
            ValueError: the bytes do not have that shape.
        """
        return np.frombuffer(self.vectors, dtype="<f4").reshape(len(self.digests), dimension)


def encode_reply(reply: Reply) -> bytes:
    return msgspec.msgpack.encode(reply)


def decode_reply(data: bytes) -> Reply:
    """
    Raises:
        msgspec.DecodeError: the bytes are no reply.
    """
    try:
        return msgspec.msgpack.decode(data, type=Reply)
    except UnicodeDecodeError as error:  # msgspec lets it through
        raise msgspec.DecodeError(f"a text is not UTF-8: {error.reason}") from None
