"""Model directories made for a test: real architectures with random weights and a tokenizer of their own."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from shared.model.directory import ModelDirectory, Pooling, read_model

DEFAULT_WIDTH, DEFAULT_LAYERS, DEFAULT_HEADS = 768, 6, 12


@dataclass(frozen=True)
class Shape:
    """Of a RoBERTa encoder; the defaults are those of the server's default model."""

    width: int = DEFAULT_WIDTH
    layers: int = DEFAULT_LAYERS
    heads: int = DEFAULT_HEADS


def write_roberta(directory: Path, texts: Sequence[str], shape: Shape | None = None) -> Path:
    """A sentence-transformers directory: RoBERTa with 514 positions, byte-level BPE trained on `texts`, mean pooling.

    Weights are random and wider than usual, so that different texts get different vectors.
    """
    shape = shape or Shape()
    directory.mkdir(parents=True, exist_ok=True)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=2_000, special_tokens=specials, show_progress=False)
    trained.save_model(str(directory))
    tokenizer = RobertaTokenizer.from_pretrained(directory, model_max_length=512)
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=trained.get_vocab_size(),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        initializer_range=0.06,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    model: Any = RobertaModel(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zeros as transformers makes them would hide a bias that is left out
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(directory)
    _write_json(directory / "sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    parts = ("", "Transformer"), ("1_Pooling", "Pooling")
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(parts)
    ]
    _write_json(directory / "modules.json", modules)
    set_pooling(directory, "mean", shape.width)
    return directory


def set_pooling(directory: Path, pooling: Pooling, width: int) -> None:
    (directory / "1_Pooling").mkdir(exist_ok=True)
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    modes = {f"pooling_mode_{name}": key == pooling for key, name in names.items()}
    _write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **modes})


def changed_copy(model: ModelDirectory, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a model directory with other weights."""
    shutil.copytree(model.path, target)
    weights = load_file(target / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def opened(directory: Path) -> ModelDirectory:
    return read_model(directory, directory.name, "made")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
