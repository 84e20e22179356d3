"""From the name of a release to the release: the steps, top to bottom."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

from filelock import AsyncFileLock

from api.corpus.archive import read_archive
from api.corpus.embeddings import compute, computed_path, sample_of, stored_embeddings, verify
from api.corpus.reader import read_corpus
from api.corpus.repository import DataRepository, SegmentSource
from api.corpus.segment import Segment, build, is_whole, open_segment, segment_directory
from api.corpus.snapshot import Snapshot
from api.embedding.backend import Backend, Backends
from api.embedding.bulk import BulkEmbedder
from api.retrieval.access import AccessibleSets
from api.retrieval.new_premises import NewPremiseLists
from api.retrieval.retriever import Retriever
from api.search.threads import SearchThreads
from api.serving.release import Loading, Provenance, Release, ReleaseSpec
from api.telemetry.metrics import Metrics
from shared.errors import StartupError
from shared.model.directory import ModelDirectory, open_model
from shared.redis.connections import Connections

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loader:
    """Loads releases over one process's connections, backends and metrics."""

    redis: Connections
    backends: Backends
    threads: SearchThreads
    metrics: Metrics
    data_dir: Path
    max_k: int
    max_new_premises: int
    state_ttl: float
    """Seconds for which the cache keeps the embeddings of states."""
    premise_ttl: float
    """The same of premises, new ones and those of the data."""

    async def load(self, spec: ReleaseSpec) -> AsyncGenerator[Loading | Release, None]:
        """Yields each step, and last the release, which its user closes.

        Raises:
            StartupError: something must be mended first; the sentence says what.
        """
        async with AsyncExitStack() as resources:
            yield Loading("connecting to Redis")
            await self.redis.require()
            yield Loading("reading the data")
            model = await asyncio.to_thread(open_model, spec.model, self.data_dir, weights=False)
            backend = await resources.enter_async_context(self.backends.use(model, spec.model.dtype))
            yield Loading("reading the data", backend)
            repository = DataRepository(spec.data, self.data_dir)
            source = await asyncio.to_thread(repository.source, model, spec.model)
            directory = segment_directory(self.data_dir, source.made_from)
            async with aclosing(self._built(directory, source, model, backend)) as steps:
                async for step in steps:
                    yield Loading(step, backend)
            yield Loading("mapping the index", backend)
            segment = await asyncio.to_thread(open_segment, directory)
            resources.callback(segment.close)
            yield Loading("verifying the embeddings", backend)
            least_cosine = await _verify(segment, source.stored or directory, self._bulk(backend))
            snapshot = await asyncio.to_thread(Snapshot.of, [segment])
            retriever = self._retriever(snapshot, backend)
            logger.info("ready, with embeddings of %s", backend.fingerprint)
            yield Release(
                spec,
                backend,
                retriever,
                snapshot,
                Provenance.of(segment.manifest, least_cosine),
                resources.pop_all(),
            )

    async def _built(
        self, directory: Path, source: SegmentSource, model: ModelDirectory, backend: Backend
    ) -> AsyncGenerator[str, None]:
        """Build the segment of this data and model, unless a process has built it before."""
        if is_whole(directory, source.made_from):
            return
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            # Polled: a process that waits for another one must still stop on SIGTERM.
            async with AsyncFileLock(f"{directory}.lock", poll_interval=0.5):
                if not is_whole(directory, source.made_from):
                    async for step in self._build(directory, source, model, backend):
                        yield step
        except OSError as error:
            raise StartupError(
                f"The index cannot be saved as {directory} (DATA_DIR): {error.strerror or error}."
            ) from None

    async def _build(
        self, directory: Path, source: SegmentSource, model: ModelDirectory, backend: Backend
    ) -> AsyncIterator[str]:
        corpus = await asyncio.to_thread(lambda: read_corpus(read_archive(source.archive)))
        path = source.stored
        if path is None:
            yield "embedding the premises"
            path = await asyncio.to_thread(computed_path, corpus, model, self.data_dir)
            if not path.exists():
                async for how_far in compute(path, corpus, self._bulk(backend), model.dimension):
                    yield f"embedding the premises, {how_far}"
        rows = await asyncio.to_thread(stored_embeddings, path, corpus, model.dimension)
        yield "verifying the embeddings"
        sample = sample_of(corpus)
        await verify(rows[list(sample)], sample, corpus.names, path, self._bulk(backend))
        yield "building the index"
        await asyncio.to_thread(build, directory, source.made_from, corpus, rows, sample)

    def _retriever(self, snapshot: Snapshot, backend: Backend) -> Retriever:
        corpus = snapshot.corpus
        return Retriever(
            corpus=corpus,
            index=snapshot.index,
            embedder=backend.embedder,
            accessible_sets=AccessibleSets(corpus),
            new_premises=NewPremiseLists(
                corpus, backend.embedder, self.max_new_premises, self.premise_ttl, self.metrics
            ),
            threads=self.threads,
            max_k=self.max_k,
            state_ttl=self.state_ttl,
        )

    def _bulk(self, backend: Backend) -> BulkEmbedder:
        return BulkEmbedder(backend.embedder, self.premise_ttl)


async def _verify(segment: Segment, path: Path, bulk: BulkEmbedder) -> float:
    corpus = segment.corpus
    logger.info("%d premises of %d declarations in %d modules",
                len(corpus.names), len(corpus.wire_names), len(corpus.module_names))  # fmt: skip
    return await verify(segment.sample_rows(), segment.manifest.sample, corpus.names, path, bulk)
