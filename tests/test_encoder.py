"""Embeddings agree with sentence-transformers, the truth, on the same model."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from api.corpus import Corpus
from shared.model_directory import ModelDirectory
from shared.settings import Settings
from worker.encoder import PREFIX_CHARS, TorchEncoder

LEAST_COSINE = 0.99999

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


@pytest.fixture(scope="module")
def encoder(model: ModelDirectory, demo_settings: Settings) -> TorchEncoder:
    return TorchEncoder(model, demo_settings)


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


def test_parity_on_the_demo_corpus(encoder: TorchEncoder, truth: SentenceTransformer, demo_corpus: Corpus) -> None:
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


@pytest.mark.parametrize(
    "text",
    [
        "∀ x, P x → " * 20_000,  # many words: the prefix is proof enough
        "a" * (PREFIX_CHARS * 3) + " b c",  # one word far longer than the prefix
        " \n" * PREFIX_CHARS + "late words",
        "x" + " " * (2 * PREFIX_CHARS) + "y",
    ],
)
def test_very_long_texts_give_the_tokens_of_the_whole_text(encoder: TorchEncoder, text: str) -> None:
    limit = encoder.directory.max_seq_length
    whole = encoder.tokenizer(text.strip(), truncation=True, max_length=limit)["input_ids"]
    assert encoder.tokenize([text]) == [whole]


def test_no_text_exceeds_the_models_limit(encoder: TorchEncoder) -> None:
    assert max(map(len, encoder.tokenize(LONG))) == encoder.directory.max_seq_length
