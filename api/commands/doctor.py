"""`python -m api.commands.doctor`: checks that data, model and index belong together, and prints findings as JSON.

Nothing is built.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from redis.exceptions import RedisError

from api.commands.own_backend import own_backend
from api.corpus.archive import read_archive
from api.corpus.embeddings import computed_path, sample_of, stored_embeddings, verify
from api.corpus.reader import read_corpus
from api.corpus.repository import ARCHIVE, DataRepository, DataSpec, SegmentSource, embeddings_name
from api.corpus.segment import is_whole, open_segment, segment_directory
from api.embedding.bulk import BulkEmbedder
from shared.errors import RedisAway, StartupError
from shared.finding import Finding, encode, found
from shared.model.directory import ModelDirectory, open_model
from shared.model.hub import NotDownloaded, file_download_bytes
from shared.model.spec import ModelSpec
from shared.settings import Settings, load_settings
from shared.vectors import Vectors

DATA, ROWS = "data", "embeddings"
VERIFY_S = 30.0


def main() -> int:
    logging.disable(logging.WARNING)
    settings = load_settings()
    sys.stdout.buffer.write(encode(found(DATA, lambda: data_findings(settings))))
    return 0


async def data_findings(settings: Settings) -> list[Finding]:
    spec = ModelSpec.of(settings)
    repository = DataRepository(DataSpec.of(settings), settings.data_dir, local_only=True)
    try:
        model = open_model(spec, settings.data_dir, weights=False, local_only=True)
    except StartupError:  # the model's own check says it
        model = None
    try:
        archive = repository.archive()
        if model is None:
            return [Finding("ok", DATA, f"{archive} is here; without the model its embeddings were not looked at.")]
        source = repository.source(model, spec)
    except NotDownloaded:
        return [_not_yet(repository, spec)]
    except StartupError as error:
        return [Finding("problem", DATA, str(error), "Correct DATA_REPO and DATA_REVISION.")]
    try:
        directory = segment_directory(settings.data_dir, source.made_from)
        whole = is_whole(directory, source.made_from)
        rows = _built(directory, source) if whole else _unbuilt(source, settings.data_dir, model, spec)
    except StartupError as error:
        return [Finding("problem", DATA, str(error), "Fetch the data again, or choose the model it was made for.")]
    return [rows.finding, *([await _verified(settings, model, rows)] if rows.sample else [])]


@dataclass(frozen=True)
class _Rows:
    """What is there, and a sample that can be embedded again; no sample where no rows are yet."""

    finding: Finding
    sample: dict[int, str] = field(default_factory=dict)
    rows: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    names: Sequence[str] = ()
    path: Path = Path()


def _not_yet(repository: DataRepository, model: ModelSpec) -> Finding:
    repo, revision = repository.spec.repo, repository.spec.revision
    try:
        names = (ARCHIVE, embeddings_name(model))
        size = sum(file_download_bytes(repo, revision, name, repository.data_dir) for name in names)
    except StartupError as error:
        sentence = f"Not in DATA_DIR yet, and not to be had: {error}"
        return Finding("problem", DATA, sentence, "Correct DATA_REPO and DATA_REVISION, or let this machine connect.")
    sentence = f"{repo} at {revision!r} is not in DATA_DIR yet; the first start downloads {size / 1e6:,.0f} MB."
    return Finding("warning", DATA, sentence, "Start the API once while this machine is connected.")


def _built(directory: Path, source: SegmentSource) -> _Rows:
    segment = open_segment(directory)
    corpus = segment.corpus
    sentence = f"{corpus.revision or 'The data'}: an index of {len(corpus.names):,} premises is built in {directory}."
    rows = segment.sample_rows()
    return _Rows(Finding("ok", DATA, sentence), segment.manifest.sample, rows, corpus.names, source.stored or directory)


def _unbuilt(source: SegmentSource, data_dir: Path, model: ModelDirectory, spec: ModelSpec) -> _Rows:
    corpus = read_corpus(read_archive(source.archive))
    path = source.stored or computed_path(corpus, model, data_dir)
    has = f"{corpus.revision or 'The data'} has {len(corpus):,} premises"
    if not path.exists():
        sentence = f"{has} and no embeddings for {model.name} at {spec.revision}."
        advice = "Start the API and a worker, which embeds them once; or name the model that the data was made with."
        return _Rows(Finding("warning", DATA, sentence, advice))
    rows = stored_embeddings(path, corpus, model.dimension)
    sample = sample_of(corpus)
    finding = Finding("ok", DATA, f"{has}, and {path} has as many rows; the next start builds the index.")
    return _Rows(finding, sample, rows[list(sample)], corpus.names, path)


async def _verified(settings: Settings, model: ModelDirectory, rows: _Rows) -> Finding:
    """As at every start: sampled texts are embedded again and compared."""
    count = len(rows.sample)
    try:
        async with own_backend(settings, model) as own:
            if not await own.queue.workers_alive():
                return Finding("ok", ROWS, f"Whether {count} sampled rows match their texts takes a worker to check.")
            bulk = BulkEmbedder(own.embedder, settings.premise_ttl)
            async with asyncio.timeout(VERIFY_S):
                await verify(rows.rows, rows.sample, rows.names, rows.path, bulk)
    except TimeoutError:
        sentence = f"The workers did not embed {count} texts in {VERIFY_S:g} s."
        return Finding("warning", ROWS, sentence, "Look at their logs, or add workers.")
    except (RedisAway, RedisError, OSError):  # the first is a StartupError, too
        return Finding("ok", ROWS, f"Whether {count} sampled rows match their texts takes both Redis to check.")
    except StartupError as error:
        advice = "Fetch the data again, or choose the model it was made for; if it is computed, remove the file."
        return Finding("problem", ROWS, str(error), advice)
    return Finding("ok", ROWS, f"{count} sampled rows match their texts embedded again.")


if __name__ == "__main__":
    sys.exit(main())
