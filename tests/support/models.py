"""Model directories made for a test: real architectures with random weights and a tokenizer of their own."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, PreTrainedConfig, RobertaConfig, RobertaTokenizer

from shared.model.directory import ModelDirectory, read_model
from shared.model.pooling import PoolingMode
from tests.support.tokenizer_files import WriteFiles, byte_pairs

DEFAULT_WIDTH, DEFAULT_LAYERS, DEFAULT_HEADS = 768, 6, 12
FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "weightedmean": "weightedmean_tokens"}
"""What older pooling configs call a mode, if it is not its name."""


@dataclass(frozen=True)
class Shape:
    """Of an encoder; the defaults are those of the server's default model."""

    width: int = DEFAULT_WIDTH
    layers: int = DEFAULT_LAYERS
    heads: int = DEFAULT_HEADS

    @property
    def spread(self) -> float:
        """Of random weights: wider than usual, so that different texts get different vectors."""
        return float(0.06 * (DEFAULT_WIDTH / self.width) ** 0.5)


TINY = Shape(width=32, layers=2, heads=2)


def write_roberta(directory: Path, texts: Sequence[str], shape: Shape | None = None) -> Path:
    """A sentence-transformers directory: RoBERTa, 514 positions, byte-level BPE trained on `texts`, mean pooling."""
    shape = shape or Shape()
    directory.mkdir(parents=True, exist_ok=True)
    tokens = byte_pairs(directory, texts)
    tokenizer = RobertaTokenizer.from_pretrained(directory, model_max_length=512)
    tokenizer.save_pretrained(directory)
    config = RobertaConfig(
        vocab_size=tokens,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        initializer_range=shape.spread,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    return write_weights(directory, config)


def write_tiny(
    directory: Path, config: PreTrainedConfig, files: WriteFiles, texts: Sequence[str], spare_rows: int = 0
) -> Path:
    """A sentence-transformers directory of the config's architecture, with a tokenizer trained on `texts`."""
    directory.mkdir()
    shape = {
        "vocab_size": files(directory, texts) + spare_rows,
        "hidden_size": TINY.width,
        "num_hidden_layers": TINY.layers,
        "num_attention_heads": TINY.heads,
        "intermediate_size": 4 * TINY.width,
        "initializer_range": TINY.spread,
    }
    for name, value in shape.items():
        setattr(config, name, value)
    return write_weights(directory, config)


def write_weights(directory: Path, config: PreTrainedConfig) -> Path:
    """Random weights of the config's architecture, and sentence-transformers' files: mean pooling, 512 tokens at most.

    The directory has its tokenizer already.
    """
    torch.manual_seed(0)
    model: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call]  # transformers has no types here
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zeros as transformers makes them would hide a bias that is left out
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(directory)
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    write_modules(directory, "Transformer", "Pooling")
    set_pooling(directory, "mean", config.hidden_size)
    return directory


def write_modules(directory: Path, *kinds: str) -> None:
    """modules.json with the Transformer in the directory itself and each other module in the folder it is usual in."""
    folders = ["" if kind == "Transformer" else f"{i}_{kind}" for i, kind in enumerate(kinds)]
    modules = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (folder, kind) in enumerate(zip(folders, kinds, strict=True))
    ]
    write_json(directory / "modules.json", modules)


def set_pooling(directory: Path, pooling: PoolingMode | Sequence[PoolingMode], width: int) -> None:
    """Pooling as older files have it, with a flag for each mode."""
    (directory / "1_Pooling").mkdir(exist_ok=True)
    chosen = {pooling} if isinstance(pooling, str) else set(pooling)
    modes = {f"pooling_mode_{FLAGS.get(mode, mode)}": mode in chosen for mode in {*FLAGS, *chosen}}
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": width, **modes})


def changed_copy(model: ModelDirectory, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a model directory with other weights."""
    shutil.copytree(model.path, target)
    change_weights(target, change)
    return target


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def opened(directory: Path) -> ModelDirectory:
    return read_model(directory, directory.name, "made")


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def change_json(path: Path, **fields: object) -> None:
    """Set fields of the object in a file, which may not be there yet."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, content | fields)
