"""Every layout of a model directory embeds as sentence-transformers does, or is refused at start with one sentence."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import (
    AlbertConfig,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    Qwen2Config,
    XLMRobertaConfig,
)

from api.corpus.reader import ReadCorpus
from shared.errors import StartupError
from shared.settings import Settings
from tests.support.layouts import HONOURED, REFUSED, Base, without_pad
from tests.support.models import TINY, change_json, opened, write_roberta, write_tiny
from tests.support.tokenizer_files import WriteFiles, byte_pairs, sentence_piece, unigrams, word_pieces
from tests.worker.engine.test_encoder import LEAST_COSINE, LONG, UNICODE, build, embed

TEXTS = [
    "rfl",
    "",
    "a b : Nat\n⊢ a + b = b + a",
    "theorem Nat.add_comm (n m : Nat) : n + m = m + n",
    "Represent this goal: twice",
    "UPPER Lower ÀÉ ΟΔΟΣ İstanbul ẞ",
    "nul \x00 byte, \x07 bell, \ufeff mark, \u202e right to left",
    "\ufeffmark first",
    "spells <pad> [PAD] </s> [SEP] <mask> [UNK] out",
    "𝓝[≠] x ⊓ 𝓟 s",
    "runs   of \t\t white\n\n\nspace",
    "👩‍👩‍👧‍👦 e\u0301 ﬁ ① Å",
    "x" * 500,
    *UNICODE,
    *LONG,
]
"""None has outer white space, which is no part of a text here."""
SOME = TEXTS[:12]
SPARE_ROWS = 8
"""Some tokenizer classes add special tokens of their own."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, demo_corpus: ReadCorpus) -> dict[Base, Path]:
    texts = [*demo_corpus.texts[:200], *TEXTS]
    folder = tmp_path_factory.mktemp("bases")
    return {
        "bert": write_tiny(folder / "bert", BertConfig(), word_pieces, texts),
        "roberta": write_roberta(folder / "roberta", texts, TINY),
        "unigram": write_tiny(folder / "unigram", XLMRobertaConfig(max_position_embeddings=514), unigrams, texts),
    }


def truth(directory: Path, texts: list[str]) -> NDArray[np.float32]:
    oracle = SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": torch.float32})
    vectors: NDArray[np.float32] = oracle.encode(texts, normalize_embeddings=True)
    return vectors


@pytest.fixture
def copied(tmp_path: Path, bases: dict[Base, Path], request: pytest.FixtureRequest) -> Path:
    base, change = request.param
    directory = shutil.copytree(bases[base], tmp_path / "model")
    change(directory)
    return Path(directory)


@pytest.mark.parametrize("copied", HONOURED.values(), ids=HONOURED, indirect=True)
def test_a_layout_embeds_as_sentence_transformers_does(
    copied: Path, demo_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    directory = opened(copied)
    ours = embed(build(directory, demo_settings, "packed", "cpu"), TEXTS)
    assert capfd.readouterr() == ("", "")
    theirs = truth(copied, TEXTS)
    assert ours.shape == theirs.shape == (len(TEXTS), directory.dimension)
    assert np.einsum("ij,ij->i", ours, theirs).min() >= LEAST_COSINE
    # Vectors must tell texts apart, or agreement would prove nothing.
    assert np.median(ours @ ours.T) < 0.999


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (DistilBertConfig(), word_pieces),
        (ElectraConfig(embedding_size=16), word_pieces),
        (AlbertConfig(embedding_size=16), unigrams),
        (MPNetConfig(max_position_embeddings=514), word_pieces),
        (CamembertConfig(max_position_embeddings=514), unigrams),
        (XLMRobertaConfig(max_position_embeddings=514), unigrams),
        (DebertaV2Config(relative_attention=True, pos_att_type=["c2p", "p2c"]), unigrams),
        (ModernBertConfig(num_hidden_layers=TINY.layers, pad_token_id=1, local_attention=16), unigrams),
        (BertConfig(is_decoder=True), word_pieces),
        (GPT2Config(), byte_pairs),
        (Qwen2Config(num_hidden_layers=TINY.layers, num_key_value_heads=TINY.heads, pad_token_id=1), byte_pairs),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_an_architecture_embeds_as_in_sentence_transformers(
    tmp_path: Path, config: PreTrainedConfig, files: WriteFiles, demo_corpus: ReadCorpus, demo_settings: Settings
) -> None:
    directory = write_tiny(tmp_path / "model", config, files, [*demo_corpus.texts[:200], *TEXTS], SPARE_ROWS)
    if config.model_type in (
        "gpt2",
        "qwen2",
        "modernbert",
    ):  # their tokenizer classes have no padding token of their own
        change_json(directory / "tokenizer_config.json", pad_token="<pad>")
    ours = embed(build(opened(directory), demo_settings, "packed", "cpu"), SOME)
    theirs = truth(directory, SOME)
    # Without special tokens an empty text has no tokens: a zero vector there, which is an error here.
    there = np.linalg.norm(theirs, axis=1) > 0
    assert [text for text, some in zip(SOME, there, strict=True) if not some] in ([], [""])
    assert np.isnan(ours[~there]).all()
    assert np.einsum("ij,ij->i", ours[there], theirs[there]).min() >= LEAST_COSINE
    assert np.median(ours[there] @ ours[there].T) < 0.999


def test_a_packed_engine_needs_no_pad_token(tmp_path: Path, bases: dict[Base, Path], demo_settings: Settings) -> None:
    """sentence-transformers does, for nothing that reaches the vectors: the oracle has one."""
    directory = Path(shutil.copytree(bases["roberta"], tmp_path / "model"))
    without_pad(directory)
    encoder = build(opened(directory), demo_settings, "packed", "cpu")
    assert encoder.tokenizer.pad_id is None
    theirs = truth(bases["roberta"], TEXTS)
    assert np.einsum("ij,ij->i", embed(encoder, TEXTS), theirs).min() >= LEAST_COSINE


def test_a_sentencepiece_model_is_read_or_names_the_package(
    tmp_path: Path, demo_corpus: ReadCorpus, demo_settings: Settings
) -> None:
    texts = [*demo_corpus.texts[:200], *TEXTS]
    directory = write_tiny(tmp_path / "model", XLMRobertaConfig(max_position_embeddings=514), sentence_piece, texts)
    model = opened(directory)
    if find_spec("sentencepiece") is None:
        with pytest.raises(StartupError, match=r"sentencepiece\.bpe\.model needs the sentencepiece package: .*\.$"):
            build(model, demo_settings, "packed", "cpu")
        return
    ours = embed(build(model, demo_settings, "packed", "cpu"), TEXTS)
    assert np.einsum("ij,ij->i", ours, truth(directory, TEXTS)).min() >= LEAST_COSINE


@pytest.mark.parametrize(
    ("copied", "words"),
    [((base, change), words) for base, change, words in REFUSED.values()],
    ids=REFUSED,
    indirect=["copied"],
)
def test_a_layout_is_refused_with_one_sentence(
    copied: Path, words: str, demo_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    with pytest.raises(StartupError) as raised:
        build(opened(copied), demo_settings, "packed", "cpu")
    said = str(raised.value)
    assert words in said
    assert str(copied) in said
    assert said.endswith(".") and "\n" not in said and "Traceback" not in said
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert capfd.readouterr() == ("", "")
