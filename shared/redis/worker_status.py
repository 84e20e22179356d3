"""What a worker says about itself every few seconds, for the page at `/` and whoever looks into Redis."""

import msgspec


class WorkerStatus(msgspec.Struct, frozen=True):
    """JSON in Redis."""

    id: str
    device: str
    tokens_per_s: float
    """Over the last few seconds; 0 when idle."""
    texts: int
    """Embedded since it started."""


def encode_status(status: WorkerStatus) -> bytes:
    return msgspec.json.encode(status)


def decode_status(data: bytes) -> WorkerStatus | None:
    """Nothing if the bytes are no worker's status."""
    try:
        return msgspec.json.decode(data, type=WorkerStatus)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
