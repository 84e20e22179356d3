"""Layouts of model directories: each is a small base model and a change to its files.

`HONOURED` must embed as sentence-transformers does, `REFUSED` must be refused with a sentence that has the given words.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from shared.model.files import SENTENCE_CONFIGS
from tests.support.models import (
    TINY,
    change_json,
    change_weights,
    set_pooling,
    write_json,
    write_modules,
)

Base = Literal["bert", "roberta", "unigram"]
Change = Callable[[Path], object]
Tensors = dict[str, torch.Tensor]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
WIDTH = TINY.width
FIRST_QUERY = "encoder.layer.0.attention.self.query.weight"
WORDS = "embeddings.word_embeddings.weight"
MODULES = "sentence_transformers.models."


def nothing(_directory: Path) -> None:
    pass


def both(*changes: Change) -> Change:
    def change(directory: Path) -> None:
        for one in changes:
            one(directory)

    return change


def json_file(name: str, **fields: object) -> Change:
    """Set fields of a JSON file."""
    return lambda directory: change_json(directory / name, **fields)


def without(*names: str) -> Change:
    def change(directory: Path) -> None:
        for name in names:
            for path in directory.glob(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def without_fields(name: str, *fields: str) -> Change:
    def change(directory: Path) -> None:
        content = json.loads((directory / name).read_text())
        write_json(directory / name, {key: value for key, value in content.items() if key not in fields})

    return change


def content(name: str, text: str | bytes) -> Change:
    def change(directory: Path) -> None:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def cut(name: str, share: float) -> Change:
    def change(directory: Path) -> None:
        whole = (directory / name).read_bytes()
        (directory / name).write_bytes(whole[: int(len(whole) * share)])

    return change


def moved(name: str, to: str) -> Change:
    def change(directory: Path) -> None:
        (directory / to).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).rename(directory / to)

    return change


def weights(change: Callable[[Tensors], object]) -> Change:
    return lambda directory: change_weights(directory, change)


def renamed(prefix: str) -> Change:
    def change(tensors: Tensors) -> None:
        for name in list(tensors):
            tensors[prefix + name] = tensors.pop(name)

    return weights(change)


def cast(dtype: torch.dtype) -> Change:
    def change(tensors: Tensors) -> None:
        for name in tensors:
            tensors[name] = tensors[name].to(dtype)

    return weights(change)


def dropped(*parts: str) -> Change:
    def change(tensors: Tensors) -> None:
        for name in [name for name in tensors if any(part in name for part in parts)]:
            del tensors[name]

    return weights(change)


def assigned(name: str, value: float) -> Change:
    def change(tensors: Tensors) -> None:
        tensors[name][-1] = value

    return weights(change)


def narrowed(name: str, rows: int) -> Change:
    def change(tensors: Tensors) -> None:
        tensors[name] = tensors[name][:rows].contiguous()

    return weights(change)


def in_parts(directory: Path) -> None:
    """Weights in several files with an index."""
    model: Any = AutoModel.from_pretrained(directory, dtype=torch.float32)
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size="30KB")
    assert len(list(directory.glob("model-*-of-*.safetensors"))) > 1


def pickled(directory: Path) -> None:
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()


def defaults(**fields: object) -> Change:
    """config_sentence_transformers.json."""
    return json_file("config_sentence_transformers.json", **fields)


def sentence(**fields: object) -> Change:
    return json_file("sentence_bert_config.json", **fields)


def pooling(**fields: object) -> Change:
    """1_Pooling/config.json as newer files have it."""
    return lambda directory: write_json(
        directory / "1_Pooling" / "config.json", {"embedding_dimension": WIDTH, **fields}
    )


def flags(*modes: Any) -> Change:
    return lambda directory: set_pooling(directory, modes, WIDTH)


def modules(*kinds: str) -> Change:
    return lambda directory: write_modules(directory, *kinds)


def listed(change: Callable[[list[dict[str, object]]], object]) -> Change:
    """Change the list in modules.json."""

    def replace(directory: Path) -> None:
        path = directory / "modules.json"
        entries = json.loads(path.read_text())
        change(entries)
        write_json(path, entries)

    return replace


def types(transformer: str, pool: str) -> Change:
    return listed(lambda entries: (entries[0].update(type=transformer), entries[1].update(type=pool)))


def dense(folder: str, inputs: int, outputs: int, **fields: object) -> Change:
    """A Dense module's folder; `fields` overrides its config."""
    config = {"in_features": inputs, "out_features": outputs, "bias": True} | fields
    config = {"activation_function": "torch.nn.modules.activation.Tanh"} | config
    config = {key: value for key, value in config.items() if value != "missing"}

    def change(directory: Path) -> None:
        write_json(directory / folder / "config.json", config)
        generator = torch.Generator().manual_seed(len(folder) + outputs)
        tensors = {"linear.weight": torch.randn(outputs, inputs, generator=generator) / inputs**0.5}
        if config["bias"]:
            tensors["linear.bias"] = torch.randn(outputs, generator=generator) / 10
        save_file(tensors, directory / folder / "model.safetensors")

    return change


def with_dense(outputs: int = 24, **fields: object) -> Change:
    return both(modules("Transformer", "Pooling", "Dense"), dense("2_Dense", WIDTH, outputs, **fields))


def tokenizer_json_only(directory: Path) -> None:
    """What transformers saves, without the files it was made from."""
    AutoTokenizer.from_pretrained(directory).save_pretrained(directory)
    without("vocab.*", "merges.txt", "special_tokens_map.json")(directory)


def word_lists_only(directory: Path) -> None:
    without("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")(directory)


def added_token(directory: Path, rows: bool) -> None:
    """A token of a user's own in the tokenizer, with or without a row in the embedding."""
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["𝓝[≠]"])
    tokenizer.save_pretrained(directory)
    if rows:
        model: Any = AutoModel.from_pretrained(directory, dtype=torch.float32)
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(directory)


def without_pad(directory: Path) -> None:
    """Whatever names a padding token is taken out; the vocabulary keeps its word."""
    without("special_tokens_map.json")(directory)
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    tokenizer.save_pretrained(directory)
    change_json(directory / "tokenizer_config.json", pad_token=None, tokenizer_class="TokenizersBackend")


plain = without("modules.json", "1_Pooling", "sentence_*_config.json")
relu = json_file("config.json", hidden_act="relu")  # no packed engine has it
PROMPTS = {"query": "Represent this goal: ", "passage": "passage:", "document": ""}
NEW = "sentence_transformers."

HONOURED: dict[str, tuple[Base, Change]] = {
    # sentence_*_config.json
    **{
        f"limit in {name}": (base, both(without("sentence_bert_config.json"), json_file(name, max_seq_length=20)))
        for name in SENTENCE_CONFIGS
        for base in ("bert", "roberta")
    },
    "two sentence configs": (
        "roberta",
        both(sentence(max_seq_length=30), json_file("sentence_roberta_config.json", max_seq_length=20)),
    ),
    "first sentence config empty": (
        "bert",
        both(content(SENTENCE_CONFIGS[0], "{}"), json_file("sentence_xlnet_config.json", max_seq_length=20)),
    ),
    "no sentence config": ("bert", without("sentence_bert_config.json")),
    "tokenizer's own limit": (
        "bert",
        both(without("sentence_bert_config.json"), json_file("tokenizer_config.json", model_max_length=25)),
    ),
    "tokenizer's old name for it": (
        "bert",
        both(
            without("sentence_bert_config.json"),
            content("tokenizer_config.json", '{"max_len": 25, "tokenizer_class": "BertTokenizer"}'),
        ),
    ),
    "limit null": (
        "roberta",
        both(sentence(max_seq_length=None), json_file("tokenizer_config.json", model_max_length=33)),
    ),
    "lower case": ("roberta", sentence(do_lower_case=True)),
    "lower case, WordPiece": ("bert", sentence(do_lower_case=True)),
    "arguments that change nothing": (
        "bert",
        sentence(model_args={"torch_dtype": "float16", "trust_remote_code": True}, tokenizer_args={}, config_args={}),
    ),
    "modality text": (
        "bert",
        sentence(
            transformer_task="feature-extraction",
            modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            module_output_name="token_embeddings",
        ),
    ),
    # modules.json
    "plain transformers, BERT": ("bert", plain),
    "plain transformers, RoBERTa": ("roberta", plain),
    "new module types": (
        "bert",
        types(f"{NEW}base.modules.transformer.Transformer", f"{NEW}sentence_transformer.modules.pooling.Pooling"),
    ),
    "Transformer in a folder": (
        "roberta",
        both(
            *(moved(name, f"0_Transformer/{name}") for name in ("config.json", "model.safetensors", "vocab.json")),
            *(moved(name, f"0_Transformer/{name}") for name in ("merges.txt", "sentence_bert_config.json")),
            moved("tokenizer.json", "0_Transformer/tokenizer.json"),
            moved("tokenizer_config.json", "0_Transformer/tokenizer_config.json"),
            listed(lambda entries: entries[0].update(path="0_Transformer")),
        ),
    ),
    "folders of other names": (
        "bert",
        both(moved("1_Pooling", "the pooling"), listed(lambda entries: entries[1].update(path="the pooling"))),
    ),
    "path of a dot": ("bert", listed(lambda entries: entries[0].update(path="."))),
    "normalized": ("bert", modules("Transformer", "Pooling", "Normalize")),
    # config_sentence_transformers.json
    "no default prompt": ("bert", defaults(prompts=PROMPTS, default_prompt_name=None)),
    "default prompt": ("bert", defaults(prompts=PROMPTS, default_prompt_name="query")),
    "default prompt, byte pairs": ("roberta", defaults(prompts=PROMPTS, default_prompt_name="query")),
    "default prompt that glues": ("roberta", defaults(prompts=PROMPTS, default_prompt_name="passage")),
    "default prompt, Unigram": ("unigram", defaults(prompts=PROMPTS, default_prompt_name="query")),
    "default prompt that is empty": ("bert", defaults(prompts=PROMPTS, default_prompt_name="document")),
    "default prompt of every model": ("bert", defaults(default_prompt_name="query")),
    "default prompt and a short limit": (
        "bert",
        both(defaults(prompts=PROMPTS, default_prompt_name="query"), sentence(max_seq_length=24)),
    ),
    "similarity cosine": ("bert", defaults(similarity_fn_name="cosine", model_type="SentenceTransformer")),
    "similarity dot of unit vectors": (
        "bert",
        both(modules("Transformer", "Pooling", "Normalize"), defaults(similarity_fn_name="dot")),
    ),
    "truncated": ("roberta", defaults(truncate_dim=10)),
    "truncated to more than there is": ("roberta", defaults(truncate_dim=1000)),
    # Pooling
    **{
        f"pooling {mode}": (base, flags(mode))
        for mode in ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
        for base in ("bert", "roberta")
    },
    "pooling by two flags": ("bert", flags("mean", "max")),
    "pooling by four flags": ("bert", flags("max", "cls", "lasttoken", "mean_sqrt_len_tokens")),
    "pooling by no flag": ("bert", pooling()),
    "pooling named": ("bert", pooling(pooling_mode="cls", include_prompt=False)),
    "pooling list of one": ("bert", pooling(pooling_mode=["max"])),
    "pooling list": ("roberta", pooling(pooling_mode=["weightedmean", "mean", "lasttoken"])),
    "pooling name and flags": ("bert", pooling(pooling_mode="cls", pooling_mode_mean_tokens=True)),
    # Dense
    **{
        f"dense {name.rpartition('.')[2]}": ("bert", with_dense(activation_function=name))
        for name in (
            "torch.nn.modules.linear.Identity",
            *(f"torch.nn.modules.activation.{name}" for name in ("Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")),
        )
    },
    "dense named shortly": ("bert", with_dense(activation_function="torch.nn.ReLU")),
    "dense without an activation": ("bert", with_dense(activation_function="missing")),
    "dense without bias": ("bert", with_dense(bias=False)),
    "dense that widens": ("bert", with_dense(outputs=80)),
    "dense of two pools": (
        "bert",
        both(flags("mean", "max"), modules("Transformer", "Pooling", "Dense"), dense("2_Dense", 2 * WIDTH, 16)),
    ),
    "two dense, normalized between and after": (
        "roberta",
        both(
            modules("Transformer", "Pooling", "Dense", "Normalize", "Dense", "Normalize"),
            dense("2_Dense", WIDTH, 24),
            dense("4_Dense", 24, 12, activation_function="torch.nn.modules.activation.GELU"),
        ),
    ),
    "dense and truncated": ("bert", both(with_dense(), defaults(truncate_dim=8))),
    # Tokenizer files
    "vocab.txt only": ("bert", word_lists_only),
    "tokenizer.json only, WordPiece": ("bert", tokenizer_json_only),
    "vocab.json and merges.txt only": ("roberta", word_lists_only),
    "tokenizer.json only, byte pairs": ("roberta", tokenizer_json_only),
    "tokenizer.json only, Unigram": ("unigram", nothing),
    "cased": ("bert", both(word_lists_only, json_file("tokenizer_config.json", do_lower_case=False))),
    "added token with a row": ("bert", partial(added_token, rows=True)),
    "added token with a row, byte pairs": ("roberta", partial(added_token, rows=True)),
    "padded on the left, byte pairs": ("roberta", json_file("tokenizer_config.json", padding_side="left")),
    # Weights
    "float16 weights": ("bert", cast(torch.float16)),
    "bfloat16 weights": ("roberta", cast(torch.bfloat16)),
    "weights in parts": ("roberta", in_parts),
    "weights with their own prefix": ("bert", renamed("bert.")),
    "weights without a pooler": ("bert", dropped("pooler")),
    "weights with a head": (
        "roberta",
        weights(lambda tensors: tensors.update({"lm_head.dense.weight": torch.zeros(4, 4)})),
    ),
    "no packed engine": ("roberta", relu),
}

REFUSED: dict[str, tuple[Base, Change, str]] = {
    # modules.json
    "modules.json an object": ("bert", content("modules.json", "{}"), "modules.json holds a JSON dict"),
    "modules.json empty": ("bert", content("modules.json", "[]"), "modules.json lists no module"),
    "modules.json cut": ("bert", cut("modules.json", 0.5), "modules.json is not JSON"),
    "modules.json of strings": ("bert", content("modules.json", '["Transformer"]'), "module 0 is"),
    "module without a path": ("bert", listed(lambda entries: entries[1].pop("path")), "has no path"),
    "module without a type": ("bert", listed(lambda entries: entries[1].pop("type")), "has no type"),
    "module without a name": ("bert", listed(lambda entries: entries[1].pop("name")), "has no name"),
    "module path a number": ("bert", listed(lambda entries: entries[1].update(path=1)), "has no path"),
    "modules of one name": ("bert", listed(lambda entries: entries[1].update(name="0")), "the same name"),
    "module above": ("bert", listed(lambda entries: entries[1].update(path="../1_Pooling")), "leads out"),
    "module elsewhere": ("bert", listed(lambda entries: entries[1].update(path="/tmp")), "leads out"),
    "module of another package": ("bert", types("transformers.Transformer", f"{MODULES}Pooling"), "of type"),
    "module of the directory": ("bert", types("modeling_lab.Transformer", f"{MODULES}Pooling"), "of type"),
    "module of no such place": ("bert", types(f"{NEW}nowhere.Transformer", f"{MODULES}Pooling"), "of type"),
    "sparse modules": ("bert", types(f"{NEW}sparse_encoder.models.Transformer", f"{MODULES}Pooling"), "of type"),
    "no Transformer": ("bert", modules("Pooling"), "lists Pooling"),
    "no Pooling": ("bert", modules("Transformer"), "lists Transformer;"),
    "two Transformers": ("bert", modules("Transformer", "Transformer"), "lists Transformer, Transformer"),
    "two Poolings": ("bert", modules("Transformer", "Pooling", "Pooling"), "lists Transformer, Pooling, Pooling"),
    "Pooling last": ("bert", modules("Transformer", "Normalize", "Pooling"), "lists Transformer, Normalize"),
    **{
        f"module {kind}": ("bert", modules("Transformer", "Pooling", kind), f"{kind}")
        for kind in ("LayerNorm", "CNN", "LSTM", "Asym", "Router", "WordWeights", "WeightedLayerPooling", "Dropout")
    },
    "Normalize of tokens": (
        "bert",
        both(
            modules("Transformer", "Pooling", "Normalize"),
            json_file("2_Normalize/config.json", module_input_name="token_embeddings"),
        ),
        "module_input_name is not sentence_embedding",
    ),
    "own files but no modules.json": ("bert", without("modules.json"), "but no modules.json"),
    "only the pooling of them": ("bert", without("modules.json", "sentence_bert_config.json"), "but no modules.json"),
    # sentence_*_config.json
    "limit zero": ("bert", sentence(max_seq_length=0), "none can be read"),
    "limit negative": ("bert", sentence(max_seq_length=-1), "none can be read"),
    "limit of special tokens only": ("bert", sentence(max_seq_length=2), "fill all 2 tokens"),
    "limit a string": ("bert", sentence(max_seq_length="128"), "max_seq_length is"),
    "limit a fraction": ("bert", sentence(max_seq_length=12.5), "max_seq_length is 12.5"),
    "sentence config a list": ("bert", content("sentence_bert_config.json", "[1]"), "holds a JSON list"),
    "sentence config cut": ("bert", content("sentence_bert_config.json", '{"max_seq'), "is not JSON"),
    "older sentence config cut": (
        "bert",
        both(without("sentence_bert_config.json"), content("sentence_albert_config.json", "{")),
        "sentence_albert_config.json is not JSON",
    ),
    "unknown field": ("bert", sentence(max_len=12), "max_len is a field that is not supported"),
    "other tokenizer": ("bert", sentence(tokenizer_name_or_path="bert-base-cased"), "tokenizer_name_or_path is"),
    "model arguments": ("bert", sentence(model_args={"add_pooling_layer": False}), "model_args is"),
    "tokenizer arguments": ("bert", sentence(tokenizer_args={"do_lower_case": False}), "tokenizer_args is"),
    "config arguments": ("bert", sentence(config_args={"num_hidden_layers": 1}), "config_args is"),
    "processing arguments": ("bert", sentence(processing_kwargs={"text": {"max_length": 8}}), "processing_kwargs is"),
    "other task": ("bert", sentence(transformer_task="fill-mask"), "transformer_task is"),
    "messages": (
        "bert",
        sentence(modality_config={"message": {"method": "forward"}}, module_output_name="token_embeddings"),
        "modality_config asks",
    ),
    "pooler's output": (
        "bert",
        sentence(
            modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
            module_output_name="sentence_embedding",
        ),
        "modality_config asks",
    ),
    "query expansion": ("bert", sentence(query_expansion={"length": 32}), "query_expansion is"),
    # config_sentence_transformers.json
    "prompt of no such name": ("bert", defaults(prompts=PROMPTS, default_prompt_name="goal"), "default_prompt_name is"),
    "prompt name a number": ("bert", defaults(prompts=PROMPTS, default_prompt_name=1), "default_prompt_name is 1"),
    "prompt a number": ("bert", defaults(prompts={"query": 3}, default_prompt_name="query"), "prompts has 3"),
    "prompts a list": ("bert", defaults(prompts=["query: "]), "prompts is"),
    "prompt not pooled": (
        "bert",
        both(pooling(include_prompt=False), defaults(prompts=PROMPTS, default_prompt_name="query")),
        "include_prompt is false",
    ),
    "prompt that fills the limit": (
        "bert",
        both(defaults(prompts={"query": "word " * 40}, default_prompt_name="query"), sentence(max_seq_length=32)),
        "fill all 32 tokens",
    ),
    "similarity dot": ("bert", defaults(similarity_fn_name="dot"), "similarity_fn_name is"),
    "similarity euclidean": ("bert", defaults(similarity_fn_name="euclidean"), "similarity_fn_name is"),
    "another kind of model": ("bert", defaults(model_type="SparseEncoder"), "model_type is"),
    "requirements": ("bert", defaults(requirements={"transformers": ">=99"}), "requirements is not supported"),
    "truncated to nothing": ("bert", defaults(truncate_dim=0), "truncate_dim is 0"),
    "defaults cut": ("bert", content("config_sentence_transformers.json", "{"), "is not JSON"),
    # config.json
    "no config": ("bert", without("config.json"), "config.json is missing"),
    "config cut": ("bert", cut("config.json", 0.5), "config.json is not JSON"),
    "config empty": ("bert", content("config.json", ""), "config.json is not JSON"),
    "config a folder": (
        "bert",
        both(without("config.json"), content("config.json/x", "")),
        "config.json cannot be read",
    ),
    "no hidden size": ("bert", without_fields("config.json", "hidden_size"), "hidden_size is missing"),
    "hidden size a string": ("bert", json_file("config.json", hidden_size="32"), "hidden_size is"),
    "no model type": ("bert", without_fields("config.json", "model_type"), "model_type is missing"),
    "unknown model type": ("bert", json_file("config.json", model_type="lab"), "lab"),
    "another model type": ("bert", json_file("config.json", model_type="distilbert"), "its weights lack"),
    "encoder-decoder": ("bert", json_file("config.json", model_type="t5", is_encoder_decoder=True), "encoder-decoders"),
    "quantized": ("bert", json_file("config.json", quantization_config={"bits": 4}), "quantized weights"),
    "code of its own": (
        "bert",
        json_file("config.json", model_type="lab", auto_map={"AutoModel": "modeling_lab.LabModel"}),
        "lab",
    ),
    "adapter": ("bert", json_file("adapter_config.json", peft_type="LORA"), "is an adapter"),
    "more layers": ("bert", json_file("config.json", num_hidden_layers=3), "its weights lack encoder.layer.2"),
    "other heads": ("bert", json_file("config.json", num_attention_heads=3), "cannot be loaded"),
    "other width": ("bert", json_file("config.json", intermediate_size=64), "but config.json asks for"),
    "unknown activation": ("bert", json_file("config.json", hidden_act="lab"), "cannot be loaded"),
    "padding id null": ("roberta", json_file("config.json", pad_token_id=None), "pad_token_id is null"),
    # Pooling
    "pooling missing": ("bert", without("1_Pooling"), "1_Pooling/config.json is missing"),
    "pooling of another width": ("bert", pooling(embedding_dimension=64), "embedding_dimension is 64"),
    "pooling without a width": ("bert", content("1_Pooling/config.json", '{"pooling_mode": "cls"}'), "is missing"),
    "pooling unknown": ("bert", pooling(pooling_mode="attention"), "pooling_mode is"),
    "pooling null": ("bert", pooling(pooling_mode=None), "pooling_mode is null"),
    "pooling list empty": ("bert", pooling(pooling_mode=[]), "pooling_mode is []"),
    "pooling flag unknown": ("bert", pooling(pooling_mode_attention=True), "pooling_mode_attention"),
    # Dense
    "dense of another width": ("bert", with_dense(in_features=64), "in_features is 64"),
    "dense without a width": ("bert", with_dense(out_features="missing"), "out_features is null"),
    "dense of tokens": ("bert", with_dense(module_input_name="token_embeddings"), "module_input_name is"),
    "dense with a residual": ("bert", with_dense(use_residual=True), "use_residual is not supported"),
    "dense with a strange activation": ("bert", with_dense(activation_function="lab.Swish"), "activation_function is"),
    "dense with a null activation": ("bert", with_dense(activation_function=None), "activation_function is null"),
    "dense without weights": ("bert", both(with_dense(), without("2_Dense/model.safetensors")), "is missing"),
    "dense weights of another shape": (
        "bert",
        both(with_dense(), json_file("2_Dense/config.json", out_features=25)),
        "has shape",
    ),
    "dense weights without bias": (
        "bert",
        both(with_dense(bias=False), json_file("2_Dense/config.json", bias=True)),
        '"linear.bias" has shape none',
    ),
    "dense weights cut": ("bert", both(with_dense(), cut("2_Dense/model.safetensors", 0.9)), "fetch it again"),
    "dense without a config": ("bert", modules("Transformer", "Pooling", "Dense"), "2_Dense/config.json is missing"),
    # Tokenizer files
    "no vocabulary": ("bert", without("vocab.txt", "tokenizer.json"), "has no vocabulary"),
    "no vocabulary, byte pairs": (
        "roberta",
        without("vocab.json", "merges.txt", "tokenizer.json"),
        "has no vocabulary",
    ),
    "another model's vocabulary": (
        "roberta",
        both(word_lists_only, without("vocab.json", "merges.txt"), content("vocab.txt", "[UNK]\na\n")),
        "knows no part",
    ),
    "vocabulary empty": ("bert", both(word_lists_only, content("vocab.txt", "")), "cannot be loaded"),
    "vocabulary of special tokens": (
        "bert",
        both(word_lists_only, content("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")),
        "knows no part",
    ),
    "vocabulary no text": (
        "bert",
        both(word_lists_only, content("vocab.txt", b"\xff\xfe")),
        "vocab.txt cannot be read",
    ),
    "vocab.json alone": ("roberta", both(word_lists_only, without("merges.txt")), "one of vocab.json and merges.txt"),
    "merges.txt alone": ("roberta", both(word_lists_only, without("vocab.json")), "has no vocabulary"),
    "tokenizer.json cut": ("roberta", cut("tokenizer.json", 0.7), "tokenizer.json is not JSON"),
    "tokenizer.json empty": ("bert", content("tokenizer.json", "{}"), "model has no vocab"),
    "tokenizer.json of another shape": (
        "bert",
        content("tokenizer.json", '{"model": {"type": "Lab", "vocab": {"a": 0}}, "added_tokens": []}'),
        "cannot be loaded",
    ),
    "tokenizer config cut": ("bert", content("tokenizer_config.json", "{"), "tokenizer_config.json is not JSON"),
    "tokenizer limit a string": (
        "bert",
        both(without("sentence_bert_config.json"), json_file("tokenizer_config.json", model_max_length="many")),
        "model_max_length is",
    ),
    "cut on the left": (
        "bert",
        json_file("tokenizer_config.json", truncation_side="left"),
        "truncation_side is not right",
    ),
    "padded on the left": (
        "bert",
        json_file("tokenizer_config.json", padding_side="left"),
        "padding_side is not right",
    ),
    "added token without a row": ("bert", partial(added_token, rows=False), '"\\ud835\\udcdd[\\u2260]"'),
    "added token without a row, byte pairs": ("roberta", partial(added_token, rows=False), "but the embedding has"),
    "added_tokens.json without a row": (
        "bert",
        both(word_lists_only, json_file("added_tokens.json", **{"[NEW]": 100_000})),
        'added_tokens.json: token "[NEW]" has id 100000',
    ),
    "pad token without a row": (
        "bert",
        both(word_lists_only, json_file("tokenizer_config.json", pad_token="[FILL]")),
        "'[FILL]' has id",
    ),
    "no pad token to pad with": ("roberta", both(relu, without_pad), "has no pad token"),
    # Weights
    "no weights": ("bert", without("model.safetensors"), "has no model.safetensors"),
    "pickled weights": ("bert", pickled, "pytorch_model.bin"),
    "weights cut": ("bert", cut("model.safetensors", 0.9), "fetch it again"),
    "weights cut in the header": ("bert", cut("model.safetensors", 0.001), "its header cannot be read"),
    "weights empty": ("bert", content("model.safetensors", ""), "its header cannot be read"),
    "weights with bytes at the end": (
        "bert",
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes() + b"\0" * 8),
        "fetch it again",
    ),
    "weights with a prefix": ("bert", renamed("model."), "its weights lack"),
    "weights with the prefix of a module": ("roberta", renamed("0.auto_model."), "its weights lack"),
    "a weight missing": ("bert", dropped(FIRST_QUERY), f"its weights lack {FIRST_QUERY}"),
    "a bias missing": ("roberta", dropped("encoder.layer.1.output.dense.bias"), "its weights lack encoder.layer.1"),
    "a weight of another shape": ("bert", narrowed(FIRST_QUERY, 16), f"weight {FIRST_QUERY} has shape [16, 32]"),
    "fewer words": ("bert", narrowed(WORDS, 100), f"weight {WORDS} has shape [100, 32]"),
    "a weight not a number": ("bert", assigned(FIRST_QUERY, float("nan")), f"weight {FIRST_QUERY} has numbers"),
    "a weight infinite": ("roberta", assigned(WORDS, float("inf")), f"weight {WORDS} has numbers"),
    "part missing": ("roberta", both(in_parts, without("model-00001-*.safetensors")), "cannot be read"),
    "part cut": (
        "roberta",
        both(in_parts, lambda d: cut(next(d.glob("model-00002-*")).name, 0.9)(d)),
        "fetch it again",
    ),
    "index of nothing": (
        "roberta",
        both(in_parts, content("model.safetensors.index.json", '{"weight_map": {}}')),
        "weight_map is missing",
    ),
    "index to elsewhere": (
        "roberta",
        both(in_parts, content("model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}')),
        "weight_map names",
    ),
    # git-lfs pointers
    **{
        f"pointer for {name}": ("bert", content(name, POINTER), f"{name} is a git-lfs pointer")
        for name in (
            "modules.json",
            "config.json",
            "sentence_bert_config.json",
            "vocab.txt",
            "tokenizer.json",
            "tokenizer_config.json",
            "1_Pooling/config.json",
            "model.safetensors",
        )
    },
    "pointer for a part": (
        "roberta",
        both(in_parts, lambda d: content(next(d.glob("model-00001-*")).name, POINTER)(d)),
        "git-lfs",
    ),
    "pointer for dense weights": ("bert", both(with_dense(), content("2_Dense/model.safetensors", POINTER)), "git-lfs"),
}
