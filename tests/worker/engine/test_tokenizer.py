"""Token ids are sentence-transformers', also of very long texts, of which only the beginning is read."""

import json
import shutil
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from tokenizers.normalizers import NFKC, Lowercase
from tokenizers.normalizers import Sequence as Normalizers
from transformers import BertConfig, XLMRobertaConfig

from shared.errors import BadInput
from shared.model.directory import ModelDirectory
from shared.model.text import READ_CHARS, read_part, text_digest
from tests.support.models import TINY, change_json, opened, write_roberta, write_tiny
from tests.support.tokenizer_files import unigrams, word_pieces
from worker.engine.tokenizer import PREFIX_CHARS, Tokenizer, with_lowercase

SIGMA = "ΟΔΟΣ ΑΣ 𝒜 İ ẞ Theorem"
MANY = 300_001
"""More than any prefix, and odd: what is left over of an endless word must not turn up at its start."""
ENDLESS = {
    "words": "∀ x, P x → " * (MANY // 11),
    "letters": "a" * MANY,
    "letters and a word": "a" * MANY + " b c",
    "two letters": "ab" * (MANY // 2) + "a",
    "signs": "=" * MANY,
    "words of a thousand letters": ("a" * 1000 + ".") * (MANY // 1001),
    "words of nothing known": ("q" * 700 + " ") * (MANY // 701) + "b",
    "spaces": "x" + " " * MANY + "y",
    "tabs": "x" + "\t" * MANY + "y z",
    "control characters": "x" + "\x01" * MANY + "y",
    "joiners": "x" + "\u200d" * MANY + " y",
    "accents": "e" + "\u0301" * MANY + " y",
    "emoji": "😀" * (MANY // 3) + " b",
    "ideograms": "定" * (MANY // 3) + " b",
    "private characters": "\U000f0000" * (MANY // 3) + " b",
    "the 262,145th character": "x" + " " * 262_143 + "y",
}


@pytest.fixture(scope="module")
def tokenizer(model: ModelDirectory) -> Tokenizer:
    return Tokenizer(model)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """One of each kind; what they were trained on has long runs, so that some tokens are long."""
    folder = tmp_path_factory.mktemp("tokenizers")
    texts = [Path(__file__).read_text(encoding="utf-8"), *["a" * 50 + " " + "ab" * 30 + " ===== -----"] * 20]
    directories = {
        "word pieces": write_tiny(folder / "word-pieces", BertConfig(), word_pieces, texts),
        "byte pairs": write_roberta(folder / "byte-pairs", texts, TINY),
        "unigrams": write_tiny(folder / "unigrams", XLMRobertaConfig(max_position_embeddings=514), unigrams, texts),
    }
    return {kind: Tokenizer(opened(directory)) for kind, directory in directories.items()}


def whole(tokenizer: Tokenizer, text: str) -> list[int]:
    """The token ids of all of a text."""
    ids: list[int] = tokenizer.transformers(text, truncation=True, max_length=tokenizer.limit)["input_ids"]
    return ids


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("kind", ["word pieces", "byte pairs", "unigrams"])
def test_very_long_texts_give_the_tokens_of_the_whole_text(
    tokenizers: dict[str, Tokenizer], kind: str, name: str
) -> None:
    text = ENDLESS[name]
    assert len(text) > PREFIX_CHARS
    assert [ids.tolist() for ids in tokenizers[kind]([text])] == [whole(tokenizers[kind], text)]


def test_the_real_model_reads_very_long_texts_whole(tokenizer: Tokenizer) -> None:
    for text in ENDLESS.values():
        assert [ids.tolist() for ids in tokenizer([text])] == [whole(tokenizer, text)]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("word " * (READ_CHARS // 2), 256),
        ("x" + " " * READ_CHARS + "y", 0),
        ("a" * READ_CHARS + " b", 0),
        (" " * READ_CHARS + "late" + " " * READ_CHARS, 3),
    ],
    ids=["words", "space", "one word", "space around"],
)
def test_a_text_that_is_cut_is_read_only_if_what_was_cut_off_does_not_count(
    tokenizer: Tokenizer, text: str, length: int
) -> None:
    """The part that a queue carries, and the text itself, have the same tokens or none."""
    part = read_part(text)
    assert len(part) <= READ_CHARS
    of_part, of_text = tokenizer([part, text])
    assert of_part.tolist() == of_text.tolist()
    assert len(of_part) == length
    assert length == 0 or of_part.tolist() == whole(tokenizer, text.strip())


def test_no_texts_are_no_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer([]) == []


def test_outer_white_space_is_no_part_of_a_text(tokenizers: dict[str, Tokenizer]) -> None:
    """As in sentence-transformers until 5.3; since 5.4 byte pairs tell it, so stored rows would be another text's."""
    for tokenizer in tokenizers.values():
        bare, spaced, blank, empty = tokenizer(["a = b", " \n a = b\t\r\n\u00a0", " \n\t", ""])
        assert bare.tolist() == spaced.tolist()
        assert blank.tolist() == empty.tolist()


@pytest.mark.parametrize("text", ["\ud800", "a \udfff b", "x" * PREFIX_CHARS + "\ud83d"])
def test_half_a_character_has_no_tokens_and_spoils_no_other_text(tokenizer: Tokenizer, text: str) -> None:
    before, none, after = tokenizer(["rfl", text, "rfl"])
    assert before.tolist() == after.tolist() == whole(tokenizer, "rfl")
    assert none.tolist() == []


def test_half_a_character_has_no_digest_but_a_sentence() -> None:
    with pytest.raises(BadInput, match=r"^A text has a lone surrogate at character 3, .*\.$"):
        text_digest("a \ud800")


def test_a_mark_of_byte_order_is_read_as_sentence_transformers_reads_it(tokenizers: dict[str, Tokenizer]) -> None:
    for tokenizer in tokenizers.values():
        assert [ids.tolist() for ids in tokenizer(["\ufeffa = b"])] == [whole(tokenizer, "\ufeffa = b")]


def test_a_prompt_stands_before_every_text_also_a_long_one(tmp_path: Path) -> None:
    directory = write_roberta(tmp_path / "model", list(ENDLESS), TINY)
    defaults = {"prompts": {"goal": "Goal: "}, "default_prompt_name": "goal"}
    change_json(directory / "config_sentence_transformers.json", **defaults)
    tokenizer = Tokenizer(opened(directory))
    texts = ["rfl", "", ENDLESS["words"], ENDLESS["letters"]]
    assert [ids.tolist() for ids in tokenizer(texts)] == [whole(tokenizer, f"Goal: {text.strip()}") for text in texts]


def test_lower_case_is_sentence_transformers(tmp_path: Path) -> None:
    """A tokenizer that keeps case, in a model whose sentence_bert_config.json asks for lower case."""
    kept = write_roberta(tmp_path / "kept", ["theorem Nat.add ΟΔΟΣ οδος"], TINY)
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
