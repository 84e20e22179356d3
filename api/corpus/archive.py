"""Reads a data archive into memory, whatever it holds: bounded, and never written to disk."""

import gzip
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, cast

from shared.errors import StartupError

MAX_ARCHIVE_BYTES = 8 << 30
"""Unpacked; forty times today's Mathlib. More is a decompression bomb."""
PACKERS_OWN = re.compile(r"\._.*|\.DS_Store|__MACOSX|PaxHeaders(\.[0-9]+)?|pax_global_header", re.DOTALL)
"""Files and folders that a Mac's packer adds, and headers of one tar that another unpacked as files."""
LAYOUT_FOLDERS = frozenset({"Declarations", "Imports"})
"""Folders of a data archive. Any other folder that holds all the rest is the folder that was packed."""


def read_archive(path: Path, *, max_bytes: int = MAX_ARCHIVE_BYTES) -> dict[str, bytes]:
    """The regular files in a .tar.gz by name. They are read, never written to disk.

    A leading `./` is dropped, and so is one folder that holds everything. Files that packers add are passed over, and
    `Imports/`: nothing reads it, and the imports of all modules take more memory than their declarations.

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
                    raise StartupError(f"{path}: member {_shown(member)} leads out of the archive.")
                if member.isdir():
                    continue
                if member.size < 0:  # the next header would be an earlier one, for ever
                    raise StartupError(f"{path}: member {_shown(member)} has a negative size.")
                total += member.size
                if total > max_bytes:
                    raise StartupError(f"{path}: unpacks to more than {max_bytes} bytes.")
                file = archive.extractfile(member) if member.isreg() else None
                if file is None:
                    raise StartupError(f"{path}: member {_shown(member)} is a link or device, not a file.")
                if _is_read(name):
                    contents[str(name)] = file.read()
            _read_to_end(stream, path, max_bytes)
    except StartupError:
        raise
    except Exception as error:  # tarfile lets through whatever numbers and names of headers lead to
        raise StartupError(f"{path} is not a readable .tar.gz: {error}.") from None
    return _without_top_folder(contents)


def _is_read(name: PurePosixPath) -> bool:
    return name.parts[-2:-1] != ("Imports",) and not any(map(PACKERS_OWN.fullmatch, name.parts))


def _without_top_folder(contents: dict[str, bytes]) -> dict[str, bytes]:
    tops = {name.partition("/")[0] if "/" in name else "" for name in contents}
    if len(tops) != 1 or not tops.isdisjoint({"", *LAYOUT_FOLDERS}):
        return contents
    return {name.partition("/")[2]: content for name, content in contents.items()}


def _shown(member: tarfile.TarInfo) -> str:
    """The name in a sentence: quoted, on one line, and short."""
    return repr(member.name[:100])


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
