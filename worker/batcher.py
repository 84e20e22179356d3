"""Batches across jobs: texts come in, token-budget batches go to the one thread that owns the model."""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracer,
    SpanContext,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from shared.errors import ModelBroken, TextFailed
from shared.model.text import READ_CHARS
from shared.redis.keys import LANES, Lane
from shared.vectors import Vector
from worker.batch_rule import cost, take_batch
from worker.engine.encoder import Encoder
from worker.engine.tokenizer import TokenIds
from worker.metrics import WorkerMetrics

logger = logging.getLogger(__name__)

Embedded = Vector | TextFailed | None
"""A text's unit vector, or why it has none; nothing for one that was dropped."""


UNREAD = f"the model reads no token of this text; a word of over {READ_CHARS:,} characters is not read"


@dataclass(eq=False)
class _Entry:
    tokens: TokenIds
    result: asyncio.Future[Vector]
    job: SpanContext
    """Of the trace that the text belongs to; not valid if there is none."""
    taken: bool = False
    """Whether it is in a batch, or was."""


@dataclass
class Batcher:
    """Owns the model thread; use as an async context manager."""

    encoder: Encoder
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    tracer: Tracer = field(default_factory=NoOpTracer)
    budget: int = 0
    """Most tokens of a batch: the encoder's, until the device ran out of memory."""
    _pending: dict[Lane, list[_Entry]] = field(default_factory=lambda: {lane: [] for lane in LANES})
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _model_thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="model"))
    # Tokenising has a thread of its own: it runs ahead while the model computes.
    _tokenizer_thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="tokenizer")
    )
    _task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._set_budget(self.encoder.batch_tokens)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def broken(self) -> None:
        """Wait until the model can no longer be used, which ends the batcher.

        Raises:
            ModelBroken: always; who waits for texts learns the same.
        """
        assert self._task is not None
        await self._task

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        self._model_thread.shutdown(cancel_futures=True)
        self._tokenizer_thread.shutdown(cancel_futures=True)

    async def embed(
        self, texts: Sequence[str], lane: Lane, abandoned: asyncio.Future[None] | None = None
    ) -> list[Embedded]:
        """A unit vector, shape [dimension], for each text, or why that text has none.

        Once `abandoned` is done, or this is cancelled, texts that are in no batch yet are dropped.
        """
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._tokenizer_thread, self.encoder.tokenize, texts)
        job = get_current_span().get_span_context()
        entries = [_Entry(ids, loop.create_future(), job) for ids in tokens]
        self._pending[lane] += entries
        self._arrived.set()
        if abandoned:
            abandoned.add_done_callback(lambda _: _drop(entries))
        try:
            if entries:
                await asyncio.wait([e.result for e in entries])
        except asyncio.CancelledError:
            _drop(entries)
            raise
        return [_outcome(e.result) for e in entries]

    def waiting(self, lane: Lane) -> int:
        """Texts tokenised and not yet in a batch."""
        return len(self._pending[lane])

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        turn: Lane = "interactive"
        while True:
            await self._arrived.wait()
            lane = next((lane for lane in (turn, *LANES) if self._pending[lane]), None)
            if lane is None:
                self._arrived.clear()
                continue
            batch = self._take(lane)
            if not batch:
                continue
            # Turns alternate while both wait: a state waits for one batch at most, and bulk work goes on.
            turn = "bulk" if lane == "interactive" else "interactive"
            try:
                vectors = await loop.run_in_executor(self._model_thread, self._timed, batch)
            except ModelBroken as error:
                _settle(batch, [error] * len(batch))
                raise
            except Exception as error:  # a fault of the program; no waiter may hang because of it
                logger.exception("the model thread failed")
                _settle(batch, [error] * len(batch))
            else:
                _settle(batch, vectors)
                failed = sum(isinstance(v, TextFailed) for v in vectors)
                self.metrics.texts.labels(lane, "failed").inc(failed)
                self.metrics.texts.labels(lane, "embedded").inc(len(batch) - failed)

    def _take(self, lane: Lane) -> list[_Entry]:
        waiting = [entry for entry in self._pending[lane] if not entry.result.cancelled()]
        self.metrics.texts.labels(lane, "dropped").inc(len(self._pending[lane]) - len(waiting))
        if not waiting:
            self._pending[lane] = []
            return []
        chosen = set(take_batch([len(e.tokens) for e in waiting], self.budget, padded=self.encoder.padded))
        self._pending[lane] = [entry for i, entry in enumerate(waiting) if i not in chosen]
        batch = [waiting[i] for i in sorted(chosen)]
        for entry in batch:
            entry.taken = True
        return batch

    def _timed(self, batch: list[_Entry]) -> list[Vector | TextFailed]:
        """Runs in the model thread."""
        tokens = [entry.tokens for entry in batch]
        computed = cost([len(ids) for ids in tokens], padded=self.encoder.padded)
        self.metrics.tokens.inc(sum(map(len, tokens)))
        self.metrics.computed_tokens.inc(computed)
        self.metrics.batch_tokens.observe(computed)
        with self.metrics.batch_seconds.time(), self._span(batch, computed):
            return self._embed(tokens)

    def _span(self, batch: list[_Entry], tokens: int) -> AbstractContextManager[object]:
        """A batch has texts of many jobs: it is in the trace of the oldest, and linked to all."""
        jobs = {entry.job.span_id: entry.job for entry in batch if entry.job.is_valid}
        if not jobs:
            return nullcontext()
        oldest = set_span_in_context(NonRecordingSpan(next(iter(jobs.values()))))
        attributes = {"texts": len(batch), "tokens": tokens}
        links = [Link(job) for job in jobs.values()]
        return self.tracer.start_as_current_span("batch", oldest, attributes=attributes, links=links)

    def _embed(self, batch: list[TokenIds]) -> list[Vector | TextFailed]:
        """A batch that fails is halved until the text at fault stands alone, or the device has the memory."""
        try:
            rows = self.encoder.embed(batch)
        except RuntimeError as error:  # torch's own errors, out of memory among them
            if len(batch) > 1:
                logger.warning("a batch of %d texts failed and is split: %s", len(batch), type(error).__name__)
                self.metrics.batches_split.inc()
                return self._embed_halves(batch)
            self._prove_model(error)
            return [TextFailed(f"the model failed on this text ({type(error).__name__})")]
        failed, unread = TextFailed("the model has no finite embedding for this text"), TextFailed(UNREAD)
        return [
            row if np.isfinite(row).all() else failed if len(tokens) else unread
            for row, tokens in zip(rows, batch, strict=True)
        ]

    def _embed_halves(self, batch: list[TokenIds]) -> list[Vector | TextFailed]:
        middle = len(batch) // 2
        halves = (batch[:middle], batch[middle:])
        results = [self._embed(half) for half in halves]
        size = max(cost([len(ids) for ids in half], padded=self.encoder.padded) for half in halves)
        # No text was at fault, so the size was.
        if not any(isinstance(result, TextFailed) for part in results for result in part) and size < self.budget:
            self._set_budget(size)
            logger.warning("batches have at most %d tokens from now on, not %d", size, self.encoder.batch_tokens)
        return results[0] + results[1]

    def _set_budget(self, tokens: int) -> None:
        self.budget = tokens
        self.metrics.token_budget.set(tokens)

    def _prove_model(self, error: RuntimeError) -> None:
        """Blame a text only if the model still embeds another: some errors of a device stay until the process ends.

        Raises:
            ModelBroken: it does not.
        """
        try:
            self.encoder.embed(self.encoder.tokenize(["theorem rfl : a = a"]))
        except RuntimeError:
            raise ModelBroken(f"The model fails on every text now: {str(error).splitlines()[0]}") from error


def _drop(entries: Sequence[_Entry]) -> None:
    for entry in entries:
        if not entry.taken:
            entry.result.cancel()


def _outcome(result: asyncio.Future[Vector]) -> Embedded:
    if result.cancelled():
        return None
    error = result.exception()
    if error is None:
        return result.result()
    if isinstance(error, TextFailed):
        return error
    raise error


def _settle(batch: list[_Entry], results: Sequence[Vector | BaseException]) -> None:
    for entry, result in zip(batch, results, strict=True):
        if entry.result.done():  # cancelled: nobody waits any more
            continue
        if isinstance(result, BaseException):
            entry.result.set_exception(result)
        else:
            entry.result.set_result(result)
