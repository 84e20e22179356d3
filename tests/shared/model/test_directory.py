"""What is read from a sentence-transformers directory, without loading the model.

That it is what sentence-transformers reads is for tests/worker/engine/test_layouts.py.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
from sentence_transformers.util import import_from_string

from shared.commands.demo_run import demo_environment
from shared.errors import StartupError
from shared.model.dense import DenseLayer
from shared.model.directory import ModelDirectory, open_model, read_model
from shared.model.modules import TYPES
from shared.model.spec import ModelSpec
from tests.support.models import change_json, write_json, write_modules

DEMO_MODEL = Path(demo_environment()["MODEL_ID"])
BERT = {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512, "pad_token_id": 0}
ROBERTA = {"model_type": "roberta", "hidden_size": 384, "max_position_embeddings": 514, "pad_token_id": 1}
POOLING = {"word_embedding_dimension": 384}
TOKENIZER = {"model": {"vocab": {"a": 0}}}


def write_model(directory: Path, *kinds: str, **files: object) -> Path:
    """A model of JSON files without weights; `1_Pooling__config` stands for `1_Pooling/config.json`."""
    write_modules(directory, *(kinds or ("Transformer", "Pooling")))
    usual = {"config": BERT, "1_Pooling__config": POOLING, "tokenizer": TOKENIZER}
    for name, content in (usual | files).items():
        write_json(directory / f"{name.replace('__', '/')}.json", content)
    return directory


def read(directory: Path, *kinds: str, **files: object) -> ModelDirectory:
    return read_model(write_model(directory, *kinds, **files), "model", "0123456789ab", weights=False)


def test_the_demo_model_is_read_as_sentence_transformers_reads_it(model: ModelDirectory) -> None:
    assert (model.dimension, model.max_seq_length, model.pooling, model.do_lower_case) == (384, 256, ("mean",), False)
    assert (model.prompt, model.steps) == ("", (None,))


def test_a_plain_transformers_directory_is_pooled_by_mean(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", BERT)
    write_json(tmp_path / "tokenizer.json", TOKENIZER)
    model = read_model(tmp_path, "model", "", weights=False)
    assert (model.path, model.dimension, model.pooling, model.steps) == (tmp_path, 384, ("mean",), ())


@pytest.mark.parametrize(("is_causal", "pooling"), [(None, ("lasttoken",)), (True, ("lasttoken",)), (False, ("mean",))])
def test_a_plain_model_that_continues_text_is_pooled_by_its_last_token(
    tmp_path: Path, is_causal: bool | None, pooling: tuple[str, ...]
) -> None:
    write_json(tmp_path / "config.json", BERT | {"architectures": ["BertForCausalLM"]})
    if is_causal is not None:
        change_json(tmp_path / "config.json", is_causal=is_causal)
    write_json(tmp_path / "tokenizer.json", TOKENIZER)
    assert read_model(tmp_path, "model", "", weights=False).pooling == pooling


def test_a_plain_model_of_chats_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", BERT)
    write_json(tmp_path / "tokenizer.json", TOKENIZER)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(StartupError, match=r"has a chat template and no modules\.json: .*\.$"):
        read_model(tmp_path, "model", "", weights=False)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_module_is_one_of_sentence_transformers(name: str) -> None:
    assert import_from_string(name).__name__ == TYPES[name]


@pytest.mark.parametrize(
    ("pooling", "modes"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ("mean",)),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_mean_tokens": False}, ("mean",)),
        ({"pooling_mode": "max", "include_prompt": True}, ("max",)),
        ({"pooling_mode": ["max", "cls"]}, ("max", "cls")),
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, ("cls",)),
        ({}, ("mean",)),
    ],
)
def test_pooling_is_known_by_flags_and_by_names(
    tmp_path: Path, pooling: dict[str, object], modes: tuple[str, ...]
) -> None:
    model = read(tmp_path, **{"1_Pooling__config": POOLING | pooling})
    assert model.pooling == modes
    assert model.dimension == 384 * len(modes)


def test_dense_layers_follow_pooling_and_the_last_one_says_the_dimension(tmp_path: Path) -> None:
    gelu = "torch.nn.modules.activation.GELU"
    first = {"in_features": 384, "out_features": 96, "bias": True, "activation_function": gelu}
    second = {"in_features": 96, "out_features": 64, "bias": False}
    model = read(
        tmp_path,
        "Transformer",
        "Pooling",
        "Dense",
        "Normalize",
        "Dense",
        **{"2_Dense__config": first, "4_Dense__config": second},
    )
    weights = [tmp_path / folder / "model.safetensors" for folder in ("2_Dense", "4_Dense")]
    assert model.steps == (
        DenseLayer(weights[0], 384, 96, True, "GELU"),
        None,
        DenseLayer(weights[1], 96, 64, False, "Tanh"),
    )
    assert model.dimension == 64


def test_a_default_prompt_and_a_truncation_are_read(tmp_path: Path) -> None:
    defaults = {"prompts": {"goal": "Goal: "}, "default_prompt_name": "goal", "truncate_dim": 128}
    model = read(tmp_path, config_sentence_transformers=defaults)
    assert (model.prompt, model.dimension) == ("Goal: ", 128)


def test_a_transformer_in_a_folder_of_its_own_is_read_there(tmp_path: Path) -> None:
    write_model(tmp_path, sentence_bert_config={"max_seq_length": 128, "do_lower_case": True})
    for name in ("config.json", "tokenizer.json", "sentence_bert_config.json"):
        (tmp_path / "0_Transformer").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "0_Transformer" / name)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    write_json(tmp_path / "modules.json", modules)
    model = read_model(tmp_path, "model", "", weights=False)
    assert model.path == tmp_path / "0_Transformer"
    assert (model.dimension, model.max_seq_length, model.do_lower_case) == (384, 128, True)


NO_LIMIT = 1000000000000000019884624838656
"""What transformers writes for a tokenizer without a limit of its own: int(1e30)."""


@pytest.mark.parametrize(
    ("config", "bert", "tokenizer", "expected"),
    [
        (BERT, {"max_seq_length": 128}, {"model_max_length": 512}, 128),
        (BERT, {"max_seq_length": 256}, {"model_max_length": 128}, 256),
        (BERT, {"max_seq_length": None}, {"model_max_length": 384}, 384),
        (BERT, {}, {"model_max_length": 384}, 384),
        (BERT, {}, {"max_len": 384}, 384),
        (BERT, {}, {}, 512),
        (BERT, {}, {"model_max_length": None}, 512),
        (BERT, {}, {"model_max_length": NO_LIMIT}, 512),
        (BERT, {}, {"model_max_length": 1e30}, 512),
        (BERT, {"max_seq_length": 4096}, {}, 512),
        (ROBERTA, {}, {}, 512),
        (ROBERTA, {"max_seq_length": 514}, {"model_max_length": 514}, 512),
        (ROBERTA, {"max_seq_length": 128}, {"model_max_length": 512}, 128),
        (ROBERTA, {}, {"model_max_length": NO_LIMIT}, 512),
        (ROBERTA | {"model_type": "xlm-roberta"}, {}, {}, 512),
        (ROBERTA | {"model_type": "mpnet"}, {}, {}, 512),
        (ROBERTA | {"model_type": "longformer", "max_position_embeddings": 4098}, {}, {}, 4096),
        ({"model_type": "bert", "hidden_size": 384}, {}, {}, 512),
        ({"model_type": "gpt2", "n_embd": 384, "n_positions": 1024}, {}, {}, 1024),
        ({"model_type": "xlnet", "d_model": 384, "max_position_embeddings": -1}, {"max_seq_length": 99}, {}, 99),
        ({"model_type": "lab", "hidden_size": 384}, {"max_seq_length": 99}, {}, 99),
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


def test_a_model_of_which_no_file_says_the_longest_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"max_position_embeddings is missing, and no other file names .*\.$"):
        read(tmp_path, config={"model_type": "lab", "hidden_size": 384})


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
    config = {"model_type": "distilbert", "dim": 384, "max_position_embeddings": 512}
    assert read(tmp_path, config=config).dimension == 384


@pytest.mark.parametrize("content", ["{", "[1]", "\ud800", '"text"', "[" * 100_000])
def test_a_damaged_config_is_refused(tmp_path: Path, content: str) -> None:
    write_model(tmp_path)
    (tmp_path / "config.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(StartupError, match=r"config\.json .*\.$"):
        read_model(tmp_path, "model", "")


@pytest.mark.parametrize(
    "token",
    [
        {"tokenizer": {"model": {"vocab": {"a": 0, "b": 7}}}},
        {"tokenizer": {"model": {"vocab": [["a", 0.0]] * 8}}},
        {"tokenizer": TOKENIZER | {"added_tokens": [{"id": 7, "content": "b"}]}},
        {"added_tokens": {"b": 7}},
        {"tokenizer_config": {"added_tokens_decoder": {"7": {"content": "b"}}}},
    ],
)
def test_a_token_without_a_row_in_the_embedding_is_refused(tmp_path: Path, token: dict[str, object]) -> None:
    assert read(tmp_path, config=BERT | {"vocab_size": 8}, **token).dimension == 384
    with pytest.raises(StartupError, match=r"token .* has id 7, but the embedding has 7 rows\.$"):
        read(tmp_path, config=BERT | {"vocab_size": 7}, **token)


@pytest.mark.parametrize("number", [-1, 1.5, "1", True, None])
def test_an_id_that_is_no_number_is_refused(tmp_path: Path, number: object) -> None:
    with pytest.raises(StartupError, match=r'the id of token "b" is .*, not a number\.$'):
        read(tmp_path, config=BERT | {"vocab_size": 8}, added_tokens={"b": number})


# A directory as a whole.


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder of links to the demo model's files; a test may replace them."""
    return Path(shutil.copytree(DEMO_MODEL, tmp_path / "my-model", copy_function=os.symlink))


def opened(directory: Path, *, weights: bool = True) -> ModelDirectory:
    return open_model(ModelSpec(str(directory), "main", directory.name, "float32"), directory, weights=weights)


def test_a_local_model_is_named_by_its_folder_and_known_by_a_digest(copied: Path) -> None:
    model = opened(copied)
    assert model.name == "my-model"
    assert len(bytes.fromhex(model.revision)) == 6
    assert model.fingerprint("float32") == f"my-model@{model.revision}:float32"
    assert opened(copied, weights=False) == model


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


@pytest.mark.parametrize(
    "file",
    [
        "config_sentence_transformers.json",
        "sentence_roberta_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "2_Normalize/config.json",
    ],
)
def test_the_digest_covers_files_that_not_every_model_has(copied: Path, model: ModelDirectory, file: str) -> None:
    (copied / file).unlink(missing_ok=True)
    write_json(copied / file, {})
    assert opened(copied).revision != model.revision


def test_the_digest_passes_over_files_that_nothing_reads(copied: Path, model: ModelDirectory) -> None:
    for file in ("notes.md", "checkpoint-500/model.safetensors", "onnx/config.json"):
        (copied / file).parent.mkdir(exist_ok=True)
        (copied / file).write_text("{}")
    assert opened(copied).revision == model.revision


def test_a_local_directory_without_weights_is_refused_by_the_api_too(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(StartupError, match=r"has no model\.safetensors"):
        opened(copied, weights=False)


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"MODEL_ID .*/missing is not a directory\.$"):
        opened(tmp_path / "missing")


def test_a_file_that_may_not_be_read_is_refused(copied: Path) -> None:
    (copied / "vocab.txt").unlink()
    (copied / "vocab.txt").symlink_to(copied / "vocab.txt")  # leads to itself
    (copied / "config.json").unlink()
    (copied / "config.json").symlink_to(copied / "config.json")
    with pytest.raises(StartupError, match=r"config\.json .*\.$"):
        opened(copied)
