"""What one API process serves: the corpus of its data revision, once it is loaded and verified."""

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from api.corpus import Corpus, build_corpus
from api.corpus_embeddings import compute, computed_path, stored_embeddings, verify
from api.data_repository import DataRepository, read_archive
from api.embedder import Embedder
from api.embedding_queue import EmbeddingQueue
from api.index import PremiseIndex
from api.response import names_body
from api.retriever import Retriever
from shared.embedding_cache import EmbeddingCache
from shared.errors import Unavailable
from shared.model_directory import ModelDirectory, open_model
from shared.redis_client import connect, disconnect, require
from shared.settings import Settings

logger = logging.getLogger(__name__)


class Catalog:
    """Loads in the background while the server already answers; use `close` when done."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fingerprint = ""
        self._corpus: Corpus | None = None
        self._retriever: Retriever | None = None
        self._names_bodies: dict[str, bytes] = {}
        self._queue: EmbeddingQueue | None = None
        self._step = "starting"
        self._resources = AsyncExitStack()
        self._threads = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="search")
        self._resources.callback(self._threads.shutdown, cancel_futures=True)

    async def load(self) -> None:
        """
        Raises:
            StartupError: something must be mended first; the sentence says what.
        """
        settings = self.settings
        self._step = "connecting to Redis"
        queue_redis, cache_redis = await self._connect(settings.redis_url, settings.cache_url)
        self._step = "reading the data"
        # Not the search threads: a full executor must not keep the process from becoming ready.
        model = await asyncio.to_thread(open_model, settings, weights=False)
        repository = DataRepository(settings, settings.data_revision)
        corpus = await asyncio.to_thread(lambda: build_corpus(read_archive(repository.archive())))
        logger.info(
            "%d premises of %d declarations in %d modules",
            len(corpus), len(corpus.wire_names), len(corpus.module_names),
        )  # fmt: skip
        self._names_bodies = {
            "indexed-premises": names_body(corpus.wire_names),
            "indexed-modules": names_body(corpus.module_names),
        }
        self._corpus = corpus
        self.fingerprint = model.fingerprint(settings.dtype)
        self._queue = EmbeddingQueue(queue_redis, self.fingerprint, settings.embed_service_max_concurrent_inputs)
        embedder = await self._resources.enter_async_context(
            Embedder(
                self._queue,
                EmbeddingCache(cache_redis, self.fingerprint, model.dimension),
                dimension=model.dimension,
                near_entries=settings.lru_cache_size,
                chunk_tokens=settings.chunk_tokens,
            )
        )
        self._step = "embedding and verifying the premises"
        index = await self._index(repository, corpus, model, embedder)
        self._retriever = Retriever(
            corpus=corpus,
            index=index,
            embedder=embedder,
            threads=self._threads,
            max_k=settings.max_k,
            max_new_premises=settings.max_new_premises,
            timeout_s=settings.request_timeout,
        )
        self._step = ""
        logger.info("ready, with embeddings of %s", self.fingerprint)

    @property
    def retriever(self) -> Retriever:
        """
        Raises:
            Unavailable: not loaded yet.
        """
        if self._retriever is None:
            raise self._not_yet()
        return self._retriever

    @property
    def revision(self) -> str:
        """What the data calls itself; empty until it is read."""
        return self._corpus.revision if self._corpus else ""

    def names_body(self, route: str) -> bytes:
        """
        Raises:
            Unavailable: not loaded yet.
        """
        if route not in self._names_bodies:
            raise self._not_yet()
        return self._names_bodies[route]

    async def problems(self) -> list[str]:
        """Why requests that need an embedding would fail now, one sentence each."""
        if self._retriever is None or self._queue is None:
            return [str(self._not_yet())]
        try:
            alive = await self._queue.workers_alive()
        except (RedisError, OSError):
            return ["The queue's Redis (REDIS_URL) cannot be reached."]
        return [] if alive else [f"No worker for {self.fingerprint} is alive."]

    async def close(self) -> None:
        await self._resources.aclose()

    def _not_yet(self) -> Unavailable:
        return Unavailable(f"The server is not ready yet: {self._step}. Try again soon.")

    async def _connect(self, *urls: str) -> list[ArqRedis]:
        clients = [connect(url) for url in urls]
        for client in clients:
            self._resources.push_async_callback(disconnect, client)
        for client, url, setting in zip(clients, urls, ("REDIS_URL", "CACHE_REDIS_URL"), strict=True):
            await require(client, url, setting)
        return clients

    async def _index(
        self, repository: DataRepository, corpus: Corpus, model: ModelDirectory, embedder: Embedder
    ) -> PremiseIndex:
        path = await asyncio.to_thread(repository.embeddings, model)
        if path is None:
            path = await asyncio.to_thread(computed_path, corpus, model, self.settings.data_dir)
            if not path.exists():
                await compute(path, corpus, embedder, model.dimension)
        rows = await asyncio.to_thread(stored_embeddings, path, corpus, model.dimension)
        await verify(rows, path, corpus, embedder)
        return await asyncio.to_thread(PremiseIndex, rows)
