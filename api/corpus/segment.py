"""What is made from the data once and mapped by every process after that: indices, names, modules, declarations.

A folder `DATA_DIR/index/{key}` holds one build; the key is a digest of all that it was made from and of the format.
It is built beside its place and renamed into it, so it is there whole or not at all; `manifest.json`, with the size of
every file, tells a folder that was cut short or changed since.
"""

import gzip
import json
import logging
import os
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import faiss
import msgspec
import numpy as np

from api.corpus.corpus import Corpus
from api.corpus.declarations_file import Declarations, save_declarations
from api.corpus.names_file import NamesFile
from api.corpus.reader import ReadCorpus
from api.search.index import PremiseIndex
from api.search.quantised_index import QuantisedIndex, Rounding, quantise
from shared.vectors import Vectors

logger = logging.getLogger(__name__)


FORMAT = 3
"""Counts changes of what the files hold; an older build has another key and is never read."""
READ_AHEAD_BYTES = 8 << 20


class Manifest(msgspec.Struct, frozen=True):
    """What says that a build is whole, and what it can be verified with."""

    made_from: dict[str, str]
    sizes: dict[str, int]
    sample: dict[int, str]
    """Premise id and text of a few premises."""


def artifacts_directory(data_dir: Path, made_from: dict[str, str]) -> Path:
    """Where the build of these sources is, or will be."""
    identity = json.dumps({"format": FORMAT, **made_from}, sort_keys=True)
    return data_dir / "index" / sha256(identity.encode()).hexdigest()[:16]


def is_whole(directory: Path, made_from: dict[str, str]) -> bool:
    """Whether a complete build of just these sources is there."""
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
    """Write a build, replacing what is in its place. The caller holds the lock of `directory`.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    logger.info("building the index of %d premises; this is done once", len(corpus))
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    flat = faiss.IndexFlatIP(rows.shape[1])
    flat.add(np.ascontiguousarray(rows, dtype=np.float32))
    faiss.write_index(flat, str(partial / "flat.faiss"))
    quantised, rounding = quantise(rows)
    faiss.write_index(quantised, str(partial / "quantised.faiss"))
    rounding.save(partial / "rounding.npz")
    _save_corpus(partial, corpus)
    save_declarations(partial, corpus)
    sizes = {path.name: path.stat().st_size for path in partial.iterdir()}
    manifest = Manifest(made_from=made_from, sizes=sizes, sample=sample)
    (partial / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    for path in partial.iterdir():
        _sync(path)
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)


@dataclass(frozen=True)
class Artifacts:
    """A build that is mapped: its pages are shared by all processes that have it open."""

    corpus: Corpus
    declarations: Declarations
    index: PremiseIndex
    sample: dict[int, str]
    premises_file: NamesFile
    modules_file: NamesFile


def open_artifacts(directory: Path) -> Artifacts:
    """Map a whole build."""
    corpus = _load_corpus(directory)
    for name in ("quantised.faiss", "flat.faiss"):
        _read_ahead(directory / name)
    flat, quantised = (
        faiss.read_index(str(directory / name), faiss.IO_FLAG_MMAP_IFC) for name in ("flat.faiss", "quantised.faiss")
    )
    return Artifacts(
        corpus=corpus,
        declarations=Declarations.load(directory, corpus.premise_ids),
        index=PremiseIndex(flat, QuantisedIndex(quantised, Rounding.load(directory / "rounding.npz"))),
        sample=_manifest(directory).sample,
        premises_file=NamesFile.load(directory / "premises.json"),
        modules_file=NamesFile.load(directory / "modules.json"),
    )


def _save_corpus(directory: Path, corpus: ReadCorpus) -> None:
    for name, names in (("premises.json", corpus.wire_names), ("modules.json", corpus.module_names)):
        content = msgspec.json.encode(names)
        (directory / name).write_bytes(content)
        (directory / f"{name}.gz").write_bytes(gzip.compress(content, 6, mtime=0))
    (directory / "revision").write_text(corpus.revision, encoding="utf-8")
    # Any wire index of a premise's name will do: it is there for the name.
    named = np.flatnonzero(corpus.wire_premise >= 0)
    premise_wire = np.zeros(len(corpus), np.int64)
    premise_wire[corpus.wire_premise[named]] = named
    with (directory / "arrays.npz").open("wb") as file:
        np.savez(
            file,
            wire_premise=corpus.wire_premise,
            premise_wire=premise_wire,
            module_start=corpus.module_start,
            module_stop=corpus.module_stop,
            needs_import_all=corpus.needs_import_all,
        )


def _load_corpus(directory: Path) -> Corpus:
    wire_names = msgspec.json.decode((directory / "premises.json").read_bytes(), type=list[str])
    module_names = msgspec.json.decode((directory / "modules.json").read_bytes(), type=list[str])
    with np.load(directory / "arrays.npz", allow_pickle=False) as arrays:
        names = [wire_names[i] for i in arrays["premise_wire"].tolist()]
        return Corpus(
            revision=(directory / "revision").read_text(encoding="utf-8"),
            module_names=module_names,
            wire_names=wire_names,
            names=names,
            wire_premise=arrays["wire_premise"],
            module_start=arrays["module_start"],
            module_stop=arrays["module_stop"],
            needs_import_all=arrays["needs_import_all"],
            module_ids={name: i for i, name in enumerate(module_names)},
            premise_ids={name: i for i, name in enumerate(names)},
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
