"""Token ids are sentence-transformers', also of very long texts, of which only the beginning is read."""

import json
import shutil
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from tokenizers.normalizers import NFKC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers

from shared.model.directory import ModelDirectory
from tests.support.models import Shape, opened, write_roberta
from worker.engine.tokenizer import PREFIX_CHARS, Tokenizer, with_lowercase

SIGMA = "ΟΔΟΣ ΑΣ 𝒜 İ ẞ Theorem"


@pytest.fixture(scope="module")
def tokenizer(model: ModelDirectory) -> Tokenizer:
    return Tokenizer(model)


@pytest.mark.parametrize(
    "text",
    [
        "∀ x, P x → " * 20_000,  # many words: the prefix is proof enough
        "a" * (PREFIX_CHARS * 3) + " b c",  # one word far longer than the prefix
        " \n" * PREFIX_CHARS + "late words",
        "x" + " " * (2 * PREFIX_CHARS) + "y",
    ],
)
def test_very_long_texts_give_the_tokens_of_the_whole_text(tokenizer: Tokenizer, text: str) -> None:
    whole = tokenizer.transformers(text.strip(), truncation=True, max_length=tokenizer.limit)["input_ids"]
    assert [ids.tolist() for ids in tokenizer([text])] == [whole]


def test_no_texts_are_no_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer([]) == []


def test_lower_case_is_sentence_transformers(tmp_path: Path) -> None:
    """A tokenizer that keeps case, in a model whose sentence_bert_config.json asks for lower case."""
    kept = write_roberta(tmp_path / "kept", ["theorem Nat.add ΟΔΟΣ οδος"], Shape(width=32, layers=1, heads=2))
    lowered = shutil.copytree(kept, tmp_path / "lowered")
    config = {"max_seq_length": 512, "do_lower_case": True}
    (lowered / "sentence_bert_config.json").write_text(json.dumps(config), encoding="utf-8")
    (ours,) = Tokenizer(opened(lowered))([SIGMA])
    (as_it_is,) = Tokenizer(opened(kept))([SIGMA])
    theirs = SentenceTransformer(str(lowered), device="cpu").tokenize([SIGMA])["input_ids"][0].tolist()
    assert ours.tolist() == theirs != as_it_is.tolist()


def test_lowercase_is_added_once_and_first() -> None:
    steps = with_lowercase(Normalizers([NFKC()]))
    assert isinstance(steps, Normalizers)
    assert [type(steps[i]) for i in range(len(steps))] == [Lowercase, NFKC]
    assert with_lowercase(steps) is steps
    assert with_lowercase(None).normalize_str("ΑΣ") == "ας".replace("ς", "σ")
