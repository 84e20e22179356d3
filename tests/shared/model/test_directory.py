"""What is read from a sentence-transformers directory, without loading the model."""

import json
import os
import shutil
from pathlib import Path

import pytest

from shared.commands.demo_run import demo_environment
from shared.errors import StartupError
from shared.model.directory import ModelDirectory, open_model, read_model
from shared.model.spec import ModelSpec
from shared.settings import Settings

DEMO_MODEL = Path(demo_environment()["MODEL_ID"])
BERT = {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512, "pad_token_id": 0}
ROBERTA = {"model_type": "roberta", "hidden_size": 768, "max_position_embeddings": 514, "pad_token_id": 1}
MODULES = "sentence_transformers.models."


def modules(*kinds: str, transformer: str = "") -> list[dict[str, object]]:
    """modules.json with these modules, each in the folder that sentence-transformers gives it."""
    paths = [transformer if kind == "Transformer" else f"{i}_{kind}" for i, kind in enumerate(kinds)]
    return [
        {"idx": i, "name": str(i), "path": path, "type": MODULES + kind}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]


def write_model(directory: Path, **files: object) -> Path:
    """A model of JSON files without weights; `1_Pooling__config` stands for `1_Pooling/config.json`."""
    for name, content in ({"config": BERT} | files).items():
        path = directory / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return directory


def read(directory: Path, **files: object) -> ModelDirectory:
    return read_model(write_model(directory, **files), "model", "0123456789ab")


def refusal(directory: Path, **files: object) -> str:
    with pytest.raises(StartupError) as raised:
        read(directory, **files)
    sentence = str(raised.value)
    assert str(directory) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_the_demo_model_is_read_as_sentence_transformers_reads_it(model: ModelDirectory) -> None:
    assert (model.dimension, model.max_seq_length, model.pooling, model.do_lower_case) == (384, 256, "mean", False)


def test_a_plain_transformers_directory_is_pooled_by_mean(tmp_path: Path) -> None:
    model = read(tmp_path)
    assert (model.path, model.dimension, model.pooling) == (tmp_path, 384, "mean")


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}, "max"),
        ({"embedding_dimension": 384, "pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode": ["max"]}, "max"),
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, "cls"),
        ({"word_embedding_dimension": 384}, "mean"),
    ],
)
def test_the_pooling_mode_is_known_by_flag_and_by_name(tmp_path: Path, pooling: dict[str, object], mode: str) -> None:
    model = read(tmp_path, modules=modules("Transformer", "Pooling", "Normalize"), **{"1_Pooling__config": pooling})
    assert model.pooling == mode


@pytest.mark.parametrize(
    ("pooling", "named"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls, mean"),
        ({"pooling_mode": ["mean", "max"]}, "max, mean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean_tokens"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
    ],
)
def test_other_pooling_and_two_modes_at_once_are_refused(
    tmp_path: Path, pooling: dict[str, object], named: str
) -> None:
    files = {"modules": modules("Transformer", "Pooling"), "1_Pooling__config": pooling}
    assert f"pools by {named};" in refusal(tmp_path, **files)


def test_modules_that_are_not_supported_are_refused_by_name(tmp_path: Path) -> None:
    kinds = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize")
    sentence = refusal(tmp_path, modules=modules(*kinds), **{"1_Pooling__config": {"pooling_mode": "mean"}})
    assert sentence.endswith(": Dense, LayerNorm.")


@pytest.mark.parametrize("kinds", [("Pooling",), ("Transformer", "Transformer")])
def test_there_must_be_one_transformer(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    assert "not supported" in refusal(tmp_path, modules=modules(*kinds))


def test_a_transformer_in_a_folder_of_its_own_is_read_there(tmp_path: Path) -> None:
    write_model(
        tmp_path,
        modules=modules("Transformer", "Pooling", transformer="0_Transformer"),
        **{
            "0_Transformer__config": ROBERTA,
            "0_Transformer__sentence_bert_config": {"max_seq_length": 128, "do_lower_case": True},
            "1_Pooling__config": {"pooling_mode_cls_token": True},
        },
    )
    (tmp_path / "config.json").unlink()
    model = read_model(tmp_path, "model", "")
    assert model.path == tmp_path / "0_Transformer"
    assert (model.dimension, model.max_seq_length, model.do_lower_case) == (768, 128, True)


NO_LIMIT = 1000000000000000019884624838656
"""What transformers writes for a tokenizer without a limit of its own: int(1e30)."""


@pytest.mark.parametrize(
    ("config", "bert", "tokenizer", "expected"),
    [
        (BERT, {"max_seq_length": 128}, {"model_max_length": 512}, 128),
        (BERT, {"max_seq_length": 256}, {"model_max_length": 128}, 256),
        (BERT, {"max_seq_length": None}, {"model_max_length": 384}, 384),
        (BERT, {}, {"model_max_length": 384}, 384),
        (BERT, {}, {}, 512),
        (BERT, {}, {"model_max_length": NO_LIMIT}, 512),
        (BERT, {}, {"model_max_length": 1e30}, 512),
        (BERT, {"max_seq_length": 4096}, {}, 512),
        (ROBERTA, {}, {}, 512),
        (ROBERTA, {"max_seq_length": 514}, {"model_max_length": 514}, 512),
        (ROBERTA, {"max_seq_length": 128}, {"model_max_length": 512}, 128),
        (ROBERTA, {}, {"model_max_length": NO_LIMIT}, 512),
        (ROBERTA | {"model_type": "xlm-roberta"}, {}, {}, 512),
        (ROBERTA | {"model_type": "mpnet"}, {}, {}, 512),
    ],
)
def test_the_longest_text_is_what_the_model_says_and_never_more_than_its_positions(
    tmp_path: Path,
    config: dict[str, object],
    bert: dict[str, object],
    tokenizer: dict[str, object],
    expected: int,
) -> None:
    model = read(tmp_path, config=config, sentence_bert_config=bert, tokenizer_config=tokenizer)
    assert model.max_seq_length == expected


@pytest.mark.parametrize(
    ("bert", "expected"), [({"do_lower_case": True}, True), ({"do_lower_case": False}, False), ({}, False)]
)
def test_lower_case_is_asked_for_by_sentence_bert_config(
    tmp_path: Path, bert: dict[str, object], expected: bool
) -> None:
    # The tokenizer's own do_lower_case is the tokenizer's business.
    model = read(tmp_path, sentence_bert_config=bert, tokenizer_config={"do_lower_case": True})
    assert model.do_lower_case is expected


def test_distilbert_calls_its_hidden_size_dim(tmp_path: Path) -> None:
    config = {"model_type": "distilbert", "dim": 768, "max_position_embeddings": 512}
    assert read(tmp_path, config=config).dimension == 768


@pytest.mark.parametrize("content", ["{", "[1]", "\ud800", '"text"', "[" * 100_000])
def test_a_damaged_config_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(StartupError, match=r"config\.json .*\.$"):
        read_model(tmp_path, "model", "")


def test_a_config_without_a_hidden_size_is_refused(tmp_path: Path) -> None:
    assert "hidden_size" in refusal(tmp_path, config={"model_type": "resnet"})


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"config\.json is missing"):
        read_model(tmp_path, "model", "")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder of links to the demo model's files; a test may replace them."""
    return Path(shutil.copytree(DEMO_MODEL, tmp_path / "my-model", copy_function=os.symlink))


def opened(directory: Path) -> ModelDirectory:
    spec = ModelSpec.of(Settings(model_id=str(directory), _env_file=None))
    return open_model(spec, directory, weights=True)


def test_a_local_model_is_named_by_its_folder_and_known_by_a_digest(copied: Path) -> None:
    model = opened(copied)
    assert model.name == "my-model"
    assert len(bytes.fromhex(model.revision)) == 6
    assert model.fingerprint("float32") == f"my-model@{model.revision}:float32"


def test_the_same_files_elsewhere_are_the_same_model(copied: Path, model: ModelDirectory) -> None:
    assert opened(copied).revision == model.revision


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_the_digest_changes_with_a_byte_of_any_file_that_matters(
    copied: Path, model: ModelDirectory, file: str
) -> None:
    content = (copied / file).read_bytes()
    (copied / file).unlink()  # a link: what it leads to stays
    changed = content + b"\n" if file.endswith(".json") else content[:-1] + bytes([content[-1] ^ 1])
    (copied / file).write_bytes(changed)
    assert opened(copied).revision != model.revision


def test_the_digest_covers_weights_in_parts_and_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write_model(
        tmp_path, modules=modules("Transformer", transformer="0_Transformer"), **{"0_Transformer__config": BERT}
    )
    seen = {opened(tmp_path).revision}
    for file in ("model-00001-of-00002.safetensors", "0_Transformer/model.safetensors"):
        for content in (b"one", b"two"):
            (tmp_path / file).write_bytes(content)
            seen.add(opened(tmp_path).revision)
    assert len(seen) == 5


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"MODEL_ID .*/missing is not a directory\.$"):
        opened(tmp_path / "missing")
