"""The packed engine over RoBERTa, in every pooling, in bfloat16, and with a text that the model has no number for."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from api.corpus.reader import ReadCorpus
from shared.errors import TextFailed
from shared.model.directory import ModelDirectory
from shared.model.pooling import PoolingMode
from shared.settings import Settings
from tests.support.models import Shape, changed_copy, opened, set_pooling, write_roberta
from tests.worker.engine.test_encoder import (
    DEVICES,
    ENGINES,
    LEAST_COSINE,
    LEAST_COSINE_HALF,
    LONG,
    SHORT,
    build,
    embed,
)
from worker.batcher import Batcher, Embedded
from worker.engine.packed_model import PackedModel, can_pack
from worker.engine.packing import evened, pack, positions
from worker.engine.padded_model import PaddedModel
from worker.engine.tokenizer import Tokenizer

TEXTS = [*SHORT, "", "a text that spells <pad> and </s> out <pad>", LONG[2][:400], LONG[0], "∀ ε > 0, ∃ δ > 0, 𝓝 x"]
POISON = "poison"


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory, demo_corpus: ReadCorpus) -> ModelDirectory:
    """The default model's architecture."""
    return opened(write_roberta(tmp_path_factory.mktemp("roberta"), demo_corpus.texts))


@pytest.fixture(scope="module")
def roberta_truth(roberta: ModelDirectory) -> NDArray[np.float32]:
    truth = SentenceTransformer(str(roberta.path), device="cpu")
    assert truth.max_seq_length == roberta.max_seq_length == 512
    return truth.encode(TEXTS, normalize_embeddings=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ENGINES)
def test_roberta_agrees_with_sentence_transformers(
    device: str, engine: str, roberta: ModelDirectory, roberta_truth: NDArray[np.float32], demo_settings: Settings
) -> None:
    encoder = build(roberta, demo_settings, engine, device)
    assert encoder.padded == (engine == "padded")
    tokens = encoder.tokenize(TEXTS)
    assert max(map(len, tokens)) == 512
    ours = encoder.embed(tokens)
    assert np.einsum("ij,ij->i", ours, roberta_truth).min() >= LEAST_COSINE
    # Random weights must tell texts apart, or agreement would prove nothing.
    assert (ours @ ours.T - np.eye(len(TEXTS))).max() < 0.995


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_every_pooling_agrees_with_sentence_transformers(
    tmp_path: Path, device: str, engine: str, pooling: PoolingMode, demo_settings: Settings
) -> None:
    small = write_roberta(tmp_path, TEXTS, Shape(width=64, layers=2, heads=2))
    set_pooling(small, pooling, 64)
    theirs = SentenceTransformer(str(small), device="cpu").encode(TEXTS, normalize_embeddings=True)
    ours = embed(build(opened(small), demo_settings, engine, device), TEXTS)
    assert np.einsum("ij,ij->i", ours, theirs).min() >= LEAST_COSINE


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_bfloat16_is_close_on_any_cpu(name: str, request: pytest.FixtureRequest) -> None:
    """The engine itself in bfloat16, also where the encoder would choose float32 for want of instructions."""
    directory: ModelDirectory = request.getfixturevalue("model" if name == "bert" else "roberta")
    tokens = Tokenizer(directory)(TEXTS[:7])
    exact, half = (load(directory, dtype)(tokens) for dtype in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(exact, half).min() >= LEAST_COSINE_HALF


def load(directory: ModelDirectory, dtype: torch.dtype) -> PackedModel:
    model: Any = AutoModel.from_pretrained(directory.path, dtype=dtype)
    return PackedModel(model.eval().requires_grad_(False), directory.pooling)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_text_without_a_finite_embedding_fails_alone(
    tmp_path: Path, device: str, dtype: str, engine: str, model: ModelDirectory, demo_settings: Settings
) -> None:
    """The real model, in which one token's numbers overflow; neighbours in its batch have its length."""
    clean = build(model, demo_settings, engine, device, dtype)
    token = clean.tokenizer.transformers.convert_tokens_to_ids(POISON)
    assert token != clean.tokenizer.transformers.unk_token_id

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["embeddings.word_embeddings.weight"][token] = 3e38  # finite, or the model would not load

    spoiled = opened(changed_copy(model, tmp_path / "spoiled", spoil))
    texts = ["one word", "rfl", f"{POISON} word", "two word", "x " * 300, f"x {POISON}", "a = b", "x " * 100 + POISON]

    async def run() -> list[Embedded]:
        async with Batcher(build(spoiled, demo_settings, engine, device, dtype)) as batcher:
            return await batcher.embed(texts, "bulk")

    results = asyncio.run(run())
    for text, result, truth in zip(texts, results, embed(clean, texts), strict=True):
        if POISON in text:
            assert isinstance(result, TextFailed)
            assert "no finite embedding" in str(result)
        else:
            assert isinstance(result, np.ndarray)
            assert result @ truth >= LEAST_COSINE


def test_an_architecture_without_a_packed_engine_keeps_working(tmp_path: Path, demo_settings: Settings) -> None:
    """RoBERTa with another activation stands for everything else."""
    directory = write_roberta(tmp_path, TEXTS, Shape(width=32, layers=1, heads=2))
    config = directory / "config.json"
    config.write_text(config.read_text().replace('"gelu"', '"relu"'))
    encoder = build(opened(directory), demo_settings, "packed", "cpu")
    assert encoder.padded
    theirs = SentenceTransformer(str(directory), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert np.einsum("ij,ij->i", embed(encoder, TEXTS), theirs).min() >= LEAST_COSINE


def test_models_that_are_packed_are_not_padded(model: ModelDirectory) -> None:
    bert: Any = AutoModel.from_pretrained(model.path)
    assert can_pack(bert)
    bert.config.is_decoder = True
    assert not can_pack(bert)
    assert PaddedModel.padded
    assert not PackedModel.padded


def test_a_packing_puts_equal_lengths_side_by_side_and_remembers_the_order() -> None:
    texts = [np.array(ids, np.int32) for ids in ([5, 6, 7], [8], [9, 10, 11], [12])]
    packing = pack(texts, None, torch.device("cpu"))
    assert packing.ids.tolist() == [8, 12, 5, 6, 7, 9, 10, 11]
    assert packing.positions.tolist() == [0, 0, 0, 1, 2, 0, 1, 2]
    assert packing.offsets.tolist() == [0, 1, 2, 5, 8]
    assert packing.groups == [(1, 2), (3, 2)]
    assert packing.row_of.tolist() == [2, 0, 3, 1]


def test_batches_on_a_cpu_come_in_few_sizes() -> None:
    sizes = {total: sum(map(len, evened([np.arange(total, dtype=np.int32)]))) for total in range(1, 2_049)}
    assert len(set(sizes.values())) == 256 // 16 + (2_048 - 256) // 64
    for total, size in sizes.items():
        assert total <= size < total + (16 if total <= 256 else 64)


def test_roberta_counts_positions_over_what_is_not_padding() -> None:
    ids = np.array([0, 1, 9, 2, 0, 9, 9, 2], np.int32)
    assert positions(ids, np.array([0, 4, 8], np.int32), 1).tolist() == [2, 1, 3, 4, 2, 3, 4, 5]
