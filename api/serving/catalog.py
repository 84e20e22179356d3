"""What one API process serves: the corpus of its data revision, once it is loaded and verified."""

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np
from arq.connections import ArqRedis
from filelock import AsyncFileLock
from redis.exceptions import RedisError

from api.corpus.archive import read_archive
from api.corpus.declarations_file import Declarations
from api.corpus.embeddings import compute, computed_path, sample_of, stored_embeddings, verify
from api.corpus.names_file import NamesFile
from api.corpus.reader import read_corpus
from api.corpus.repository import DataRepository
from api.corpus.segment import Artifacts, build, is_whole, open_artifacts
from api.corpus.sources import Sources, find_sources
from api.embedding.embedder import Embedder
from api.embedding.queue import EmbeddingQueue, QueueState
from api.http.rate_limit import RateLimit
from api.retrieval.access import AccessibleSets
from api.retrieval.new_premises import NewPremiseLists
from api.retrieval.retriever import Retriever
from api.search.threads import SearchThreads
from api.telemetry.metrics import Metrics
from shared.errors import StartupError, Unavailable
from shared.model.directory import ModelDirectory, open_model
from shared.redis.client import connect, disconnect, require
from shared.redis.embedding_cache import EmbeddingCache
from shared.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """One data revision, ready."""

    revision: str
    """What the data calls itself."""
    rate_limit: RateLimit
    retriever: Retriever
    declarations: Declarations
    premises_file: NamesFile
    modules_file: NamesFile


class Catalog:
    """Loads in the background while the server already answers; use `close` when done."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self._metrics = metrics
        self.fingerprint = ""
        self._served: Served | None = None
        self._queue: EmbeddingQueue | None = None
        self._step = "starting"
        self._resources = AsyncExitStack()

    async def load(self) -> None:
        """
        Raises:
            StartupError: something must be mended first; the sentence says what.
        """
        settings = self.settings
        self._step = "connecting to Redis"
        queue_redis, cache_redis = await self._connect(settings.redis_url, settings.cache_url)
        rate_limit = RateLimit(queue_redis, settings.rate_limit)
        self._step = "reading the data"
        model = await asyncio.to_thread(open_model, settings, weights=False)
        self.fingerprint = model.fingerprint(settings.dtype)
        self._queue = EmbeddingQueue(queue_redis, self.fingerprint, settings.embed_service_max_concurrent_inputs)
        embedder = await self._resources.enter_async_context(
            Embedder(
                self._queue,
                EmbeddingCache(cache_redis, self.fingerprint, model.dimension),
                dimension=model.dimension,
                near_entries=settings.lru_cache_size,
                chunk_tokens=settings.chunk_tokens,
                metrics=self._metrics,
            )
        )
        artifacts = await self._artifacts(model, embedder)
        threads = SearchThreads(artifacts.index)
        self._resources.callback(threads.close)
        corpus = artifacts.corpus
        self._served = Served(
            revision=corpus.revision,
            rate_limit=rate_limit,
            retriever=Retriever(
                corpus=corpus,
                embedder=embedder,
                accessible_sets=AccessibleSets(corpus),
                new_premises=NewPremiseLists(corpus, embedder, settings.max_new_premises, self._metrics),
                threads=threads,
                max_k=settings.max_k,
            ),
            declarations=artifacts.declarations,
            premises_file=artifacts.premises_file,
            modules_file=artifacts.modules_file,
        )
        logger.info("ready, with embeddings of %s", self.fingerprint)

    @property
    def served(self) -> Served:
        """
        Raises:
            Unavailable: not loaded yet.
        """
        if self._served is None:
            raise self._not_yet()
        return self._served

    @property
    def is_loaded(self) -> bool:
        return self._served is not None

    @property
    def revision(self) -> str:
        """What the data calls itself; empty until it is served."""
        return self._served.revision if self._served else ""

    async def queue_state(self) -> QueueState | None:
        """Nothing while Redis is away, or before the model is known."""
        if self._queue is None:
            return None
        try:
            return await self._queue.state()
        except (RedisError, OSError):
            return None

    def problems(self, queue: QueueState | None) -> list[str]:
        """Why requests that need an embedding would fail now, one sentence each."""
        if self._served is None:
            return [str(self._not_yet())]
        if queue is None:
            return ["The queue's Redis (REDIS_URL) cannot be reached."]
        return [] if queue.alive else [f"No worker for {self.fingerprint} is alive."]

    async def close(self) -> None:
        await self._resources.aclose()

    def _tell_embedding(self, how_far: str) -> None:
        self._step = f"embedding the premises, {how_far}"

    def _not_yet(self) -> Unavailable:
        return Unavailable(f"The server is not ready yet: {self._step}. Try again soon.")

    async def _connect(self, *urls: str) -> list[ArqRedis]:
        clients = [connect(url) for url in urls]
        for client in clients:
            self._resources.push_async_callback(disconnect, client)
        for client, url, setting in zip(clients, urls, ("REDIS_URL", "CACHE_REDIS_URL"), strict=True):
            await require(client, url, setting)
        return clients

    async def _artifacts(self, model: ModelDirectory, embedder: Embedder) -> Artifacts:
        """The build of this data and model, made now if no process has made it before; verified either way."""
        repository = DataRepository(self.settings, self.settings.data_revision)
        sources = await asyncio.to_thread(find_sources, repository, model)
        directory = sources.directory
        if not is_whole(directory, sources.made_from):
            try:
                directory.parent.mkdir(parents=True, exist_ok=True)
                # Polled: a process that waits for another one must still stop on SIGTERM.
                async with AsyncFileLock(f"{directory}.lock", poll_interval=0.5):
                    if not is_whole(directory, sources.made_from):
                        await self._build(sources, model, embedder)
            except OSError as error:
                raise StartupError(
                    f"The index cannot be saved as {directory} (DATA_DIR): {error.strerror or error}."
                ) from None
        self._step = "mapping the index"
        artifacts = await asyncio.to_thread(open_artifacts, directory)
        corpus = artifacts.corpus
        logger.info("%d premises of %d declarations in %d modules",
                    len(corpus), len(corpus.wire_names), len(corpus.module_names))  # fmt: skip
        self._step = "verifying the embeddings"
        rows = artifacts.index.rows(np.array(list(artifacts.sample), np.int64))
        await verify(rows, artifacts.sample, corpus.names, sources.stored or directory, embedder)
        return artifacts

    async def _build(self, sources: Sources, model: ModelDirectory, embedder: Embedder) -> None:
        corpus = await asyncio.to_thread(lambda: read_corpus(read_archive(sources.archive)))
        path = sources.stored
        if path is None:
            self._step = "embedding the premises"
            path = await asyncio.to_thread(computed_path, corpus, model, self.settings.data_dir)
            if not path.exists():
                await compute(path, corpus, embedder, model.dimension, self._tell_embedding)
        rows = await asyncio.to_thread(stored_embeddings, path, corpus, model.dimension)
        self._step = "verifying the embeddings"
        sample = sample_of(corpus)
        await verify(rows[list(sample)], sample, corpus.names, path, embedder)
        self._step = "building the index"
        await asyncio.to_thread(build, sources.directory, sources.made_from, corpus, rows, sample)
