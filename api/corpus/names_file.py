"""A list of names as bytes that never change: serialised and compressed once, with a tag that names its content."""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec


@dataclass(frozen=True)
class NamesFile:
    """JSON array of names, plain and gzipped."""

    plain: bytes
    gzipped: bytes
    etag: str
    """The ETag header's value, with its quotes."""

    @classmethod
    def of(cls, names: Sequence[str]) -> "NamesFile":
        """Takes a second for half a million names."""
        plain = msgspec.json.encode(names)
        return cls(plain, gzip.compress(plain, 6, mtime=0), _etag(plain))

    @classmethod
    def load(cls, path: Path) -> "NamesFile":
        """From a file and its `.gz` beside it."""
        plain = path.read_bytes()
        return cls(plain, _zipped(path).read_bytes(), _etag(plain))

    def save(self, path: Path) -> None:
        """To a file and its `.gz` beside it.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        path.write_bytes(self.plain)
        _zipped(path).write_bytes(self.gzipped)

    def names(self) -> list[str]:
        """The names, read anew."""
        return msgspec.json.decode(self.plain, type=list[str])


def _zipped(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _etag(plain: bytes) -> str:
    return f'"{sha256(plain).hexdigest()[:32]}"'
