"""The model: a sentence-transformers directory from the hub or a local path, and what its files say."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, cast

from shared.errors import StartupError
from shared.model.hub import hub_snapshot
from shared.model.spec import ModelSpec

Pooling = Literal["mean", "cls", "max"]

_TRANSFORMER_FILES = (
    "config.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors")


def _beside_or_below(names: tuple[str, ...]) -> tuple[str, ...]:
    """The Transformer module is the directory itself, or in older models its folder 0_Transformer."""
    return (*names, *(f"*_Transformer/{name}" for name in names))


CONFIG_FILES = ("modules.json", "*_Pooling/config.json", *_beside_or_below(_TRANSFORMER_FILES))
WEIGHT_FILES = _beside_or_below(_WEIGHTS)


@dataclass(frozen=True)
class ModelDirectory:
    """What API and worker must agree on about a model, read without loading it."""

    path: Path
    name: str
    revision: str
    """Hub commit, or for a local directory a digest of its files: 12 hex digits either way."""
    dimension: int
    max_seq_length: int
    """Longest text in tokens, special tokens counted."""
    pooling: Pooling
    do_lower_case: bool

    def fingerprint(self, dtype: str) -> str:
        return f"{self.name}@{self.revision}:{dtype}"


def open_model(spec: ModelSpec, data_dir: Path, *, weights: bool, local_only: bool = False) -> ModelDirectory:
    """The model, downloaded under `data_dir` if it is a hub id and need be; the API needs no weights.

    Raises:
        NotDownloaded: with `local_only`, it is not here yet.
        StartupError: it cannot be had, or uses something that is not supported.
    """
    if spec.local.is_dir():
        return read_model(spec.local, spec.name, _digest_of_files(spec.local))
    if spec.id.startswith((".", "/", "~")):
        raise StartupError(f"MODEL_ID {spec.id} is not a directory.")
    path, commit = hub_snapshot(spec.id, spec.revision, model_files(weights), data_dir, local_only=local_only)
    return read_model(path, spec.name, commit[:12])


def model_files(weights: bool) -> tuple[str, ...]:
    """Patterns of the files that are used."""
    return (*CONFIG_FILES, *WEIGHT_FILES) if weights else CONFIG_FILES


def read_model(path: Path, name: str, revision: str) -> ModelDirectory:
    """Read a sentence-transformers directory's configuration.

    Format: modules.json lists the modules; Transformer, Pooling and Normalize are known (sentence-transformers,
    `SentenceTransformer.save`). The result is always normalised: scores are cosines.
    """
    modules = _read_json(path / "modules.json", [{"type": "Transformer", "path": ""}])
    kinds = [str(m["type"]).rpartition(".")[2] for m in modules]
    unknown = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if unknown or kinds.count("Transformer") != 1:
        raise StartupError(f"Model {path} uses modules that are not supported: {', '.join(unknown) or kinds}.")
    transformer = path / modules[kinds.index("Transformer")]["path"]
    config = _read_json(transformer / "config.json")
    pooling: dict[str, Any] = {}
    if "Pooling" in kinds:
        pooling = _read_json(path / modules[kinds.index("Pooling")]["path"] / "config.json")
    bert = _read_json(transformer / "sentence_bert_config.json", {})
    tokenizer = _read_json(transformer / "tokenizer_config.json", {})
    dimension = config.get("hidden_size", config.get("dim"))  # DistilBERT says dim
    if not isinstance(dimension, int):
        raise StartupError(f"{transformer / 'config.json'} has no hidden_size: this is no transformer with vectors.")
    return ModelDirectory(
        path=transformer,
        name=name,
        revision=revision,
        dimension=dimension,
        max_seq_length=_max_seq_length(bert, tokenizer, config),
        pooling=_pooling(path, pooling),
        do_lower_case=bool(bert.get("do_lower_case", False)),
    )


def _pooling(path: Path, config: dict[str, Any]) -> Pooling:
    """The one pooling mode; older files have a flag per mode, newer ones a name."""
    modes = {key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on}
    named = config.get("pooling_mode")
    if named:
        modes = {named} if isinstance(named, str) else set(named)
    names = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
    modes = {names.get(mode, mode) for mode in modes} or {"mean"}
    mode = modes.pop()
    if modes or mode not in names.values():
        raise StartupError(
            f"Model {path} pools by {', '.join(sorted({mode, *modes}))}; mean, cls and max are supported."
        )
    return cast(Pooling, mode)


def _max_seq_length(bert: dict[str, Any], tokenizer: dict[str, Any], config: dict[str, Any]) -> int:
    positions = int(config.get("max_position_embeddings", 512))
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        # These number positions from the padding index + 1 (transformers, RobertaEmbeddings, MPNetEmbeddings).
        positions -= int(config.get("pad_token_id", 1)) + 1
    asked = [bert.get("max_seq_length"), tokenizer.get("model_max_length")]
    # sentence_bert_config.json wins over the tokenizer's own limit; neither can exceed the positions.
    return min(int(next((a for a in asked if a), positions)), positions)


def _read_json(path: Path, default: Any = None) -> Any:
    """The object in a file, or an array if `default` is one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not None:
            return default
        raise StartupError(f"{path} is missing: {path.parent} is no sentence-transformers model.") from None
    except (ValueError, RecursionError) as error:
        raise StartupError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, list if isinstance(default, list) else dict):
        raise StartupError(f"{path} holds a JSON {type(content).__name__}, which is not what belongs there.")
    return content


def _digest_of_files(directory: Path) -> str:
    digest = sha256()
    for path in sorted(set(_model_files(directory))):
        content = sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                content.update(block)
        digest.update(f"{path.relative_to(directory)}:{content.hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def _model_files(directory: Path) -> Iterator[Path]:
    for pattern in model_files(weights=True):
        yield from directory.glob(pattern)
