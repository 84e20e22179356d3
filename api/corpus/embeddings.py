"""The corpus's embeddings: stored ones are read and verified, missing ones are computed by the workers."""

import logging
from collections.abc import AsyncGenerator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import AsyncFileLock

from api.corpus.reader import ReadCorpus
from api.embedding.bulk import BulkEmbedder, windows
from shared.errors import StartupError
from shared.model.directory import ModelDirectory
from shared.progress import Pace
from shared.vectors import Vectors

logger = logging.getLogger(__name__)


SAMPLED_ROWS = 8
LEAST_COSINE = 0.98
"""Of a stored row and its text embedded again; half precision stays above 0.999, another text far below."""
WINDOW = 1024
"""Texts asked of the workers at a time; leaves room in the queue for others."""


def stored_embeddings(path: Path, corpus: ReadCorpus, dimension: int) -> Vectors:
    """The rows of an embeddings file, shape [premises, dimension], mapped, not read.

    Raises:
        StartupError: not an .npy file of float32 of that shape, or a row is no unit vector.
    """
    try:
        rows: Vectors = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy evaluates the header, and raises whatever its tokeniser, parser or mmap does
        raise StartupError(f"{path} is not a readable .npy file: {error}.") from None
    if rows.shape != (len(corpus), dimension) or rows.dtype != np.float32:
        raise StartupError(
            f"{path} holds {rows.dtype} of shape {rows.shape}, but corpus and model need float32 of shape "
            f"({len(corpus)}, {dimension}); it belongs to other data or another model."
        )
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    wrong = np.flatnonzero(~(np.abs(norms - 1) < 0.01))
    if len(wrong):
        raise StartupError(f"{path} row {wrong[0]} has norm {norms[wrong[0]]:g}, not 1; the file is damaged.")
    return rows


def sample_of(corpus: ReadCorpus) -> dict[int, str]:
    """Premise id and text of a few premises, spread over the corpus."""
    ids = np.unique(np.linspace(0, len(corpus) - 1, SAMPLED_ROWS).astype(int))
    return {int(i): corpus.declarations[i].text for i in ids}


async def verify(rows: Vectors, sample: dict[int, str], names: Sequence[str], path: Path, bulk: BulkEmbedder) -> float:
    """Let a worker embed sampled texts anew, past every cache, and compare them with their rows [len(sample), d].

    Returns the least cosine.

    Raises:
        StartupError: a row belongs to another text or another model.
    """
    # One at a time: there is room for one in any queue.
    again = np.concatenate([await bulk.embed_anew([text], logger.info) for text in sample.values()])
    cosines = np.einsum("ij,ij->i", rows, again)
    worst = int(np.argmin(cosines))
    if not cosines[worst] >= LEAST_COSINE:
        row = list(sample)[worst]
        raise StartupError(
            f"{path} row {row} does not match {names[row]} (cosine {cosines[worst]:.3f}); "
            "the file belongs to other data or another model."
        )
    return float(cosines[worst])


def computed_path(corpus: ReadCorpus, model: ModelDirectory, data_dir: Path) -> Path:
    """Where embeddings that are not shipped are kept; the name changes with every text and the model."""
    texts = sha256()
    for text in corpus.texts:
        texts.update(sha256(text.encode()).digest())
    return data_dir / "embeddings" / texts.hexdigest()[:16] / f"{model.name}-{model.revision}.npy"


async def compute(path: Path, corpus: ReadCorpus, bulk: BulkEmbedder, dimension: int) -> AsyncGenerator[str, None]:
    """Embed the whole corpus through the queue and save it, once for all processes of this DATA_DIR.

    Yields how far it is. Embedded texts are in the cache, so a restart goes on where this one stopped.

    Raises:
        StartupError: they cannot be saved.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Polled, not awaited in a thread: a process that waits for another one must still stop on SIGTERM.
        async with AsyncFileLock(f"{path}.lock", poll_interval=0.5):
            if not path.exists():
                async for how_far in _compute_locked(path, corpus, bulk, dimension):
                    yield how_far
    except OSError as error:
        raise StartupError(f"Embeddings cannot be saved as {path} (DATA_DIR): {error.strerror or error}.") from None


async def _compute_locked(
    path: Path, corpus: ReadCorpus, bulk: BulkEmbedder, dimension: int
) -> AsyncGenerator[str, None]:
    logger.info("embedding %d premises; this is done once", len(corpus))
    partial = path.with_suffix(".partial")
    rows = np.lib.format.open_memmap(partial, "w+", np.float32, (len(corpus), dimension))
    pace = Pace(len(corpus))
    start = 0
    for part in windows(corpus.declarations, WINDOW):
        texts = [declaration.text for declaration in part]
        rows[start : start + len(texts)] = await bulk.embed(texts, logger.info)
        start += len(texts)
        if said := pace.advance(len(texts)):
            logger.info("embedded %s", said)
        yield pace.sentence()
    rows.flush()
    partial.rename(path)
    logger.info("embedded %s", pace.sentence())
