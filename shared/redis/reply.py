"""What a worker sends back for one job."""

import msgspec
import numpy as np

from shared.vectors import Vectors


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """Embeddings of a job's texts, or why there are none.

    `vectors` holds the embedded texts' rows as little-endian float32, in the order of `digests`;
    `errors` maps the digest of each text that failed to a sentence.
    """

    job_id: str
    digests: list[str]
    vectors: bytes
    errors: dict[str, str]

    def rows(self, dimension: int) -> Vectors:
        """The embeddings, shape [len(digests), dimension].

        Raises:
            ValueError: the bytes do not have that shape.
        """
        return np.frombuffer(self.vectors, dtype="<f4").reshape(len(self.digests), dimension)


class Outcome(msgspec.Struct, frozen=True):
    """What came of a job's texts."""

    digests: list[str]
    """Of the texts that were embedded."""
    rows: Vectors
    """Their embeddings, [len(digests), dimension]."""
    errors: dict[str, str]
    """A sentence for each text that failed, by digest."""
    cached: bool
    """Whether the embeddings are in the cache now."""


def encode_reply(job_id: str, digests: list[str], vectors: Vectors, errors: dict[str, str]) -> bytes:
    return msgspec.msgpack.encode(Reply(job_id, digests, np.ascontiguousarray(vectors, dtype="<f4").tobytes(), errors))


def decode_reply(data: bytes) -> Reply:
    """
    Raises:
        msgspec.DecodeError: the bytes are no reply.
    """
    try:
        return msgspec.msgpack.decode(data, type=Reply)
    except UnicodeDecodeError as error:  # msgspec lets it through
        raise msgspec.DecodeError(f"a text is not UTF-8: {error.reason}") from None
