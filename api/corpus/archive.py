"""Reads a data archive into memory, whatever it holds: bounded, and never written to disk."""

import gzip
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, cast

from shared.errors import StartupError

MAX_ARCHIVE_BYTES = 8 << 30
"""Unpacked; forty times today's Mathlib. More is a decompression bomb."""


def read_archive(path: Path, *, max_bytes: int = MAX_ARCHIVE_BYTES) -> dict[str, bytes]:
    """The regular files in a .tar.gz by name. They are read, never written to disk.

    Raises:
        StartupError: the archive is damaged, too large, or holds a link, a device or a path that leaves it.
    """
    contents: dict[str, bytes] = {}
    total = 0
    try:
        with (
            gzip.open(path) as stream,
            tarfile.open(fileobj=cast(Any, _Bounded(stream, path, max_bytes)), mode="r:") as archive,
        ):
            for member in archive:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise StartupError(f"{path}: member {member.name!r} leads out of the archive.")
                if member.isdir():
                    continue
                if member.size < 0:  # the next header would be an earlier one, for ever
                    raise StartupError(f"{path}: member {member.name!r} has a negative size.")
                total += member.size
                if total > max_bytes:
                    raise StartupError(f"{path}: unpacks to more than {max_bytes} bytes.")
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise StartupError(f"{path}: member {member.name!r} is a link or device, not a file.")
                contents[str(name)] = file.read()
            _read_to_end(stream, path, max_bytes)
    except StartupError:
        raise
    except Exception as error:  # tarfile lets through whatever numbers and names of headers lead to
        raise StartupError(f"{path} is not a readable .tar.gz: {error}.") from None
    return contents


class _Bounded:
    """What tarfile needs of a stream, bounded: it reads names and extended headers whole, whatever size they claim."""

    def __init__(self, stream: gzip.GzipFile, path: Path, max_bytes: int) -> None:
        self._stream, self._path, self._max_bytes = stream, path, max_bytes

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, position: int) -> int:
        self._refuse_beyond(position - 2 * self._max_bytes)  # headers and padding come on top of the files
        return self._stream.seek(position)

    def read(self, size: int) -> bytes:
        self._refuse_beyond(size)
        return self._stream.read(size)

    def _refuse_beyond(self, size: int) -> None:
        if size > self._max_bytes:
            raise StartupError(f"{self._path}: unpacks to more than {self._max_bytes} bytes.")


def _read_to_end(stream: gzip.GzipFile, path: Path, max_bytes: int) -> None:
    """Read what follows the first of the two blocks of zeros that end an archive.

    tarfile stops there, and also where an archive was cut between two members; gzip compares its checksum at the end.
    """
    rest = 0
    while block := stream.read(1 << 20):
        rest += len(block)
        if rest > max_bytes:
            raise StartupError(f"{path}: unpacks to more than {max_bytes} bytes.")
    if not rest:
        raise StartupError(f"{path} is cut short: the mark at the end of the archive is missing.")
