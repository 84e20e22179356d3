"""Batches: the promises to those who wait, with the real model and with one that fails on purpose."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from shared.errors import ModelBroken, TextFailed
from shared.model.directory import ModelDirectory
from shared.settings import Settings
from shared.vectors import Vectors
from worker.batcher import Batcher, Embedded
from worker.engine.encoder import Encoder, TorchEncoder
from worker.engine.tokenizer import TokenIds


class TouchyEncoder:
    """Embeds a text as its length; raises, or gives no finite vector, where the text says so."""

    dimension = 2
    batch_tokens = 64
    device_name = "none"
    padded = True

    def __init__(self) -> None:
        self.batches: list[int] = []

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]

    def embed(self, batch: Sequence[TokenIds]) -> Vectors:
        self.batches.append(len(batch))
        words = [bytes(tokens.astype(np.uint8)).decode() for tokens in batch]
        if any("poison" in word for word in words):
            raise RuntimeError("out of memory")
        rows = np.array([[len(word), 1] for word in words], np.float32)
        rows[[i for i, word in enumerate(words) if "nan" in word]] = np.nan
        return rows


class HeldEncoder(TouchyEncoder):
    """Computes when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def embed(self, batch: Sequence[TokenIds]) -> Vectors:
        self.begun.set()
        self.go.wait()
        return super().embed(batch)


@pytest.fixture(params=["packed", "padded", "touchy"])
def encoder(request: pytest.FixtureRequest, model: ModelDirectory, demo_settings: Settings) -> Encoder:
    if request.param == "touchy":
        return TouchyEncoder()
    settings = demo_settings.model_copy(update={"torch_threads": 1})
    return TorchEncoder(model, settings, packed=request.param == "packed")


def test_results_come_in_the_order_of_the_texts(encoder: Encoder) -> None:
    texts = [f"theorem t{i} : {'x + ' * (i % 7)}y" for i in range(40)]
    alone = np.concatenate([encoder.embed(encoder.tokenize([text])) for text in texts])

    async def run() -> list[Embedded]:
        async with Batcher(encoder) as batcher:
            parts = await asyncio.gather(*(batcher.embed(texts[i : i + 10], "bulk") for i in range(0, 40, 10)))
        return [row for part in parts for row in part]

    rows = asyncio.run(run())
    assert np.allclose(np.stack([r for r in rows if isinstance(r, np.ndarray)]), alone, atol=1e-5)


def test_texts_of_several_jobs_share_a_batch() -> None:
    encoder = HeldEncoder()

    async def run() -> None:
        async with Batcher(encoder) as batcher:
            first = asyncio.create_task(batcher.embed(["aa"], "bulk"))
            while not encoder.begun.is_set():
                await asyncio.sleep(0.01)
            others = [asyncio.create_task(batcher.embed([word], "bulk")) for word in ["bb", "cc", "dd", "ee"]]
            while batcher.waiting("bulk") < len(others):
                await asyncio.sleep(0.01)
            encoder.go.set()
            await asyncio.gather(first, *others)

    asyncio.run(run())
    assert encoder.batches == [1, 4]


@pytest.mark.parametrize("bad", ["poison", "nan"])
def test_only_the_text_at_fault_fails(bad: str) -> None:
    async def run() -> list[Embedded]:
        async with Batcher(TouchyEncoder()) as batcher:
            return await batcher.embed(["one", bad, "two", "three"], "bulk")

    results = asyncio.run(run())
    assert [isinstance(r, TextFailed) for r in results] == [False, True, False, False]


def test_a_state_waits_for_one_batch_at_most() -> None:
    encoder, order = HeldEncoder(), list[str]()

    async def ask(batcher: Batcher, text: str, state: bool) -> None:
        await batcher.embed([text], "interactive" if state else "bulk")
        order.append(text)

    async def run() -> None:
        async with Batcher(encoder) as batcher:
            bulk = [asyncio.create_task(ask(batcher, f"{i:060d}", False)) for i in range(20)]
            while not encoder.begun.is_set() or batcher.waiting("bulk") < 19:
                await asyncio.sleep(0.01)
            # One bulk batch is in the model, the others have been tokenised and wait.
            state = asyncio.create_task(ask(batcher, "state", True))
            while batcher.waiting("interactive") < 1:
                await asyncio.sleep(0.01)
            encoder.go.set()
            await asyncio.gather(state, *bulk)

    asyncio.run(run())
    assert order.index("state") <= 1


def test_who_gives_up_takes_its_texts_out_of_the_line() -> None:
    encoder = HeldEncoder()

    async def run() -> Batcher:
        async with Batcher(encoder) as batcher:
            first = asyncio.create_task(batcher.embed(["in the model"], "bulk"))
            while not encoder.begun.is_set():
                await asyncio.sleep(0.01)
            gone = asyncio.create_task(batcher.embed(["a" * 60, "b" * 60], "bulk"))
            stays = asyncio.create_task(batcher.embed(["c" * 60], "bulk"))
            while batcher.waiting("bulk") < 3:
                await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            encoder.go.set()
            await asyncio.gather(first, stays)
        return batcher

    batcher = asyncio.run(run())
    assert sum(encoder.batches) == 2
    assert counted(batcher, "embedded") == 2
    assert counted(batcher, "dropped") == 2


def test_of_a_job_that_all_have_left_what_is_in_a_batch_is_still_embedded() -> None:
    encoder = HeldEncoder()

    async def run() -> list[Embedded]:
        async with Batcher(encoder) as batcher:
            abandoned: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            texts = ["a" * 60, "b" * 60, "c" * 60]  # a batch each
            job = asyncio.create_task(batcher.embed(texts, "bulk", abandoned))
            while not encoder.begun.is_set():
                await asyncio.sleep(0.01)
            abandoned.set_result(None)
            await asyncio.sleep(0)
            encoder.go.set()
            return await job

    first, *others = asyncio.run(run())
    assert isinstance(first, np.ndarray)
    assert others == [None, None]
    assert encoder.batches == [1]


def counted(batcher: Batcher, outcome: str) -> float | None:
    labels = {"lane": "bulk", "outcome": outcome}
    return batcher.metrics.registry.get_sample_value("premise_worker_texts_total", labels)


def test_a_device_that_is_too_small_gets_smaller_batches_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    class Small(TouchyEncoder):
        def embed(self, batch: Sequence[TokenIds]) -> Vectors:
            if sum(map(len, batch)) > 20:
                raise RuntimeError("out of memory")
            return super().embed(batch)

    encoder = Small()

    async def run() -> list[Embedded]:
        async with Batcher(encoder) as batcher:
            first = await batcher.embed([f"{i:08d}" for i in range(8)], "bulk")
            assert batcher.budget == 16
            assert counted(batcher, "failed") == 0
            encoder.batches.clear()
            return first + await batcher.embed([f"{i:08d}" for i in range(8, 16)], "bulk")

    results = asyncio.run(run())
    assert not any(isinstance(result, TextFailed) for result in results)
    assert encoder.batches == [2, 2, 2, 2]
    assert "at most 16 tokens from now on" in caplog.text


def test_a_text_at_fault_does_not_shrink_the_batches_of_others() -> None:
    async def run() -> None:
        async with Batcher(TouchyEncoder()) as batcher:
            await batcher.embed(["one", "two", "poison", "three"], "bulk")
            assert batcher.budget == TouchyEncoder.batch_tokens

    asyncio.run(run())


def test_a_program_fault_reaches_every_waiter() -> None:
    class Broken(TouchyEncoder):
        def embed(self, batch: Sequence[TokenIds]) -> Vectors:
            raise KeyError(len(batch))

    async def run() -> list[BaseException | list[Embedded]]:
        async with Batcher(Broken()) as batcher:
            return await asyncio.gather(*(batcher.embed([str(i)], "bulk") for i in range(5)), return_exceptions=True)

    assert all(isinstance(result, KeyError) for result in asyncio.run(run()))


def test_a_model_that_fails_on_every_text_is_broken_and_blames_none() -> None:
    class Dead(TouchyEncoder):
        def embed(self, batch: Sequence[TokenIds]) -> Vectors:
            raise RuntimeError(f"device-side assert on {len(batch)}")

    async def run() -> None:
        async with Batcher(Dead()) as batcher:
            with pytest.raises(ModelBroken):
                await batcher.embed(["good"], "bulk")
            with pytest.raises(ModelBroken):
                await batcher.broken()

    asyncio.run(run())
