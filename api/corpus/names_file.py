"""A list of names as bytes that never change: serialised and compressed once, with a tag that names its content."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path


@dataclass(frozen=True)
class NamesFile:
    """JSON array of names, plain and gzipped."""

    plain: bytes
    gzipped: bytes
    etag: str
    """As in the ETag header, quotes included."""

    @classmethod
    def load(cls, path: Path) -> "NamesFile":
        """From a file and its `.gz` beside it."""
        plain = path.read_bytes()
        return cls(plain, path.with_name(f"{path.name}.gz").read_bytes(), f'"{sha256(plain).hexdigest()[:32]}"')
