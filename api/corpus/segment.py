"""A segment: one immutable build of data with a model's embeddings. One process builds it, then every process maps it.

A folder `DATA_DIR/index/{key}` holds one segment; the key is a digest of the format and of all that it was made from.
The build is made beside its place and renamed into it, so it is there whole or not at all. `manifest.json` holds the
size of every file, so a folder that was cut short or changed is recognised.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import faiss
import msgspec
import numpy as np

from api.corpus.corpus import SegmentCorpus
from api.corpus.declarations_file import DeclarationsFile, save_declarations
from api.corpus.names_file import NamesFile
from api.corpus.reader import LeftOut, ReadCorpus
from api.search.index import PremiseIndex, rows_of
from api.search.quantised_index import QuantisedIndex, Rounding, quantise
from shared.vectors import Vectors

logger = logging.getLogger(__name__)

FORMAT = 3
"""Counts changes of what the files hold; an older build has another key and is never read."""
FLAT, ROUNDED, ROUNDING = "flat.faiss", "quantised.faiss", "rounding.npz"
PREMISES, MODULES, ARRAYS, REVISION = "premises.json", "modules.json", "arrays.npz", "revision"
READ_AHEAD_BYTES = 8 << 20


class Manifest(msgspec.Struct, frozen=True):
    """The file that tells whether a build is whole, and what verifies it."""

    made_from: dict[str, str]
    sizes: dict[str, int]
    sample: dict[int, str]
    """Row and text of a few premises."""
    filtered: Mapping[str, int]
    """Declarations that the filter removed, by rule."""
    left_out: tuple[LeftOut, ...]
    """Ends of declarations files that were not read."""


def segment_directory(data_dir: Path, made_from: dict[str, str]) -> Path:
    """The place of the segment of these sources, built or not."""
    identity = json.dumps({"format": FORMAT, **made_from}, sort_keys=True)
    return data_dir / "index" / sha256(identity.encode()).hexdigest()[:16]


def is_whole(directory: Path, made_from: dict[str, str]) -> bool:
    """True if a complete build of exactly these sources is in the directory."""
    try:
        manifest = _manifest(directory)
        return manifest.made_from == made_from and all(
            (directory / name).stat().st_size == size for name, size in manifest.sizes.items()
        )
    except (OSError, msgspec.DecodeError):
        return False


def build(
    directory: Path, made_from: dict[str, str], corpus: ReadCorpus, rows: Vectors, sample: dict[int, str]
) -> None:
    """Build the segment from rows [n, d] in place of what the directory holds. The caller holds its lock.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    logger.info("building the index of %d premises; this is done once", len(corpus))
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(np.ascontiguousarray(rows, dtype=np.float32))
    faiss.write_index(flat, str(partial / FLAT))
    quantised, rounding = quantise(rows)
    faiss.write_index(quantised, str(partial / ROUNDED))
    rounding.save(partial / ROUNDING)
    _save_corpus(partial, corpus)
    save_declarations(partial, corpus)
    sizes = {path.name: path.stat().st_size for path in partial.iterdir()}
    manifest = Manifest(made_from, sizes, sample, corpus.filtered, corpus.left_out)
    (partial / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    for path in partial.iterdir():
        _sync(path)
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


@dataclass(frozen=True)
class Segment:
    """A build that is mapped: all processes that have it open share its pages."""

    corpus: SegmentCorpus
    index: PremiseIndex
    declarations: DeclarationsFile
    manifest: Manifest
    premises_file: NamesFile
    modules_file: NamesFile

    def sample_rows(self) -> Vectors:
        """The embeddings of the sample, [len(sample), d]."""
        return self.index.rows(np.array(list(self.manifest.sample), np.int64))

    def close(self) -> None:
        """Release the maps. Searches that run now end as they would; later ones fail."""
        self.index.close()
        self.declarations.close()


def open_segment(directory: Path) -> Segment:
    """Map a whole build. Its user closes it."""
    premises_file = NamesFile.load(directory / PREMISES)
    modules_file = NamesFile.load(directory / MODULES)
    for name in (ROUNDED, FLAT):
        _read_ahead(directory / name)
    flat, rounded = (faiss.read_index(str(directory / name), faiss.IO_FLAG_MMAP_IFC) for name in (FLAT, ROUNDED))
    return Segment(
        corpus=_load_corpus(directory, premises_file, modules_file),
        index=PremiseIndex(rows_of(flat), QuantisedIndex(rounded, Rounding.load(directory / ROUNDING))),
        declarations=DeclarationsFile(directory),
        manifest=_manifest(directory),
        premises_file=premises_file,
        modules_file=modules_file,
    )


def _save_corpus(directory: Path, corpus: ReadCorpus) -> None:
    NamesFile.of(corpus.wire_names).save(directory / PREMISES)
    NamesFile.of(corpus.module_names).save(directory / MODULES)
    (directory / REVISION).write_text(corpus.revision, encoding="utf-8")
    # Any wire index of a premise's name will do: it is there for the name.
    named = np.flatnonzero(corpus.wire_premise >= 0)
    premise_wire = np.zeros(len(corpus), np.int64)
    premise_wire[corpus.wire_premise[named]] = named
    with (directory / ARRAYS).open("wb") as file:
        np.savez(
            file,
            wire_premise=corpus.wire_premise,
            premise_wire=premise_wire,
            module_start=corpus.module_start,
            module_stop=corpus.module_stop,
            needs_import_all=corpus.needs_import_all,
        )


def _load_corpus(directory: Path, premises_file: NamesFile, modules_file: NamesFile) -> SegmentCorpus:
    wire_names = premises_file.names()
    with np.load(directory / ARRAYS, allow_pickle=False) as arrays:
        names = [wire_names[i] for i in arrays["premise_wire"].tolist()]
        return SegmentCorpus(
            revision=(directory / REVISION).read_text(encoding="utf-8"),
            module_names=modules_file.names(),
            wire_names=wire_names,
            names=names,
            wire_row=arrays["wire_premise"],
            module_start=arrays["module_start"],
            module_stop=arrays["module_stop"],
            needs_import_all=arrays["needs_import_all"],
            rows={name: row for row, name in enumerate(names)},
        )


def _manifest(directory: Path) -> Manifest:
    return msgspec.json.decode((directory / "manifest.json").read_bytes(), type=Manifest)


def _read_ahead(path: Path) -> None:
    """Bring a file into memory in one sweep: mapped pages that come one by one take seconds longer."""
    buffer = memoryview(bytearray(READ_AHEAD_BYTES))
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
