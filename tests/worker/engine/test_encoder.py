"""Embeddings agree with sentence-transformers, the truth, on the same model: one suite for both engines."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from api.corpus.reader import ReadCorpus
from shared.model.directory import ModelDirectory
from shared.settings import Settings
from worker.engine.encoder import TorchEncoder, compute_dtype

LEAST_COSINE = 0.99999
LEAST_COSINE_HALF = 0.999
NOTHING = np.empty(0, np.int32)

SHORT = ["rfl", "⊢ True", "theorem Nat.add_comm (n m : Nat) : n + m = m + n", "a b : Nat\n⊢ a + b = b + a"]
UNICODE = ["∀ ε > 0, ∃ δ > 0, |x - c| < δ → ‖f x - L‖ < ε", "𝓝 x ⊓ 𝓟 s ≤ ⨅ i, α ⊗ₜ[ℝ] β", "定理 ℵ₀ 🜁 \u200b é é"]
BLANK = ["", " ", "\n\t ", "\u00a0"]
EDGES = ["  leading and trailing  \n", "UPPER lower ÀÉ", "nul \x00 byte", "x" * 500]
LONG = [
    "theorem long (x : Nat) : " + " ∧ ".join(f"x{i} + {i} = {i} + x{i}" for i in range(400)),
    "h : " + "a" * 5_000,
    "\n".join(f"h{i} : P {i}" for i in range(300)) + "\n⊢ Q",
]
DUPLICATES = [SHORT[2], SHORT[2], BLANK[0], LONG[0]]


NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NO_GPU)]
ENGINES = ["packed", "padded"]


def build(model: ModelDirectory, settings: Settings, engine: str, device: str, dtype: str = "float32") -> TorchEncoder:
    # One thread: two of them wait for each other wherever something else runs on the machine.
    settings = settings.model_copy(update={"device": device, "dtype": dtype, "torch_threads": 1})
    return TorchEncoder(model, settings, packed=engine == "packed")


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=ENGINES)
def encoder(
    request: pytest.FixtureRequest, device: str, model: ModelDirectory, demo_settings: Settings
) -> TorchEncoder:
    return build(model, demo_settings, request.param, device)


@pytest.fixture(scope="module")
def truth(demo_settings: Settings) -> SentenceTransformer:
    return SentenceTransformer(demo_settings.model_id, device="cpu")


def embed(encoder: TorchEncoder, texts: list[str]) -> NDArray[np.float32]:
    return encoder.embed(encoder.tokenize(texts))


@pytest.mark.parametrize("texts", [SHORT, UNICODE, BLANK, EDGES, LONG, DUPLICATES, SHORT + LONG + UNICODE + BLANK])
def test_parity_with_sentence_transformers(encoder: TorchEncoder, truth: SentenceTransformer, texts: list[str]) -> None:
    ours = embed(encoder, texts)
    theirs = truth.encode(texts, normalize_embeddings=True)
    assert ours.dtype == np.float32
    assert np.einsum("ij,ij->i", ours, theirs).min() >= LEAST_COSINE


def test_parity_on_the_demo_corpus(encoder: TorchEncoder, truth: SentenceTransformer, demo_corpus: ReadCorpus) -> None:
    texts = demo_corpus.texts[::7]
    ours = np.concatenate([embed(encoder, texts[i : i + 32]) for i in range(0, len(texts), 32)])
    theirs = truth.encode(texts, normalize_embeddings=True)
    assert np.einsum("ij,ij->i", ours, theirs).min() >= LEAST_COSINE


def test_a_text_embeds_the_same_alone_and_in_company(encoder: TorchEncoder) -> None:
    texts = SHORT + LONG + UNICODE
    together = embed(encoder, texts)
    alone = np.concatenate([embed(encoder, [text]) for text in texts])
    assert np.einsum("ij,ij->i", together, alone).min() >= LEAST_COSINE


def test_vectors_have_unit_length(encoder: TorchEncoder) -> None:
    assert np.allclose(np.linalg.norm(embed(encoder, SHORT + BLANK + LONG), axis=1), 1, atol=1e-6)


def test_no_text_exceeds_the_models_limit(encoder: TorchEncoder) -> None:
    assert max(map(len, encoder.tokenize(LONG))) == encoder.directory.max_seq_length


def test_a_text_without_tokens_has_no_embedding_and_spoils_no_other(encoder: TorchEncoder) -> None:
    (tokens,) = encoder.tokenize(["rfl"])
    rows = encoder.embed([NOTHING, tokens, NOTHING])
    assert np.isnan(rows[[0, 2]]).all()
    assert np.allclose(rows[1], encoder.embed([tokens])[0], atol=1e-5)
    assert np.isnan(encoder.embed([NOTHING])).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_half_precision_is_close(
    device: str, engine: str, dtype: str, model: ModelDirectory, demo_settings: Settings, truth: SentenceTransformer
) -> None:
    texts = SHORT + UNICODE + LONG
    ours = embed(build(model, demo_settings, engine, device, dtype), texts)
    assert np.einsum("ij,ij->i", ours, truth.encode(texts, normalize_embeddings=True)).min() >= LEAST_COSINE_HALF


@pytest.mark.parametrize(
    ("name", "device", "feature", "computed"),
    [
        ("float32", "cpu", "", torch.float32),
        ("bfloat16", "cpu", "", torch.float32),
        ("bfloat16", "cpu", "avx512_bf16", torch.bfloat16),
        ("bfloat16", "cpu", "amx_bf16", torch.bfloat16),
        ("float16", "cpu", "avx512_bf16", torch.float32),
        ("float16", "cpu", "avx512_fp16", torch.float16),
        ("bfloat16", "cuda", "", torch.bfloat16),
        ("float16", "cuda", "", torch.float16),
    ],
)
def test_a_cpu_computes_in_a_half_type_only_if_it_has_instructions_for_it(
    name: str, device: str, feature: str, computed: torch.dtype
) -> None:
    present = {"architecture": "x86_64", feature: True}
    assert compute_dtype(name, torch.device(device), present) == computed
