"""The model: a sentence-transformers directory from the hub or a local path, and what its files say."""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import StartupError
from shared.model.config_file import ConfigFile
from shared.model.dense import DenseLayer, read_dense
from shared.model.encode_defaults import read_defaults
from shared.model.files import (
    DEFAULTS,
    MODULE_FOLDERS,
    SENTENCE_CONFIGS,
    digest_of,
    fetched_with_all,
    files_of,
    model_files,
    refuse_pointers,
)
from shared.model.hub import hub_snapshot
from shared.model.modules import Module, read_modules
from shared.model.pooling import PoolingMode, includes_prompt, read_pooling
from shared.model.spec import ModelSpec
from shared.model.transformer_config import read_transformer
from shared.model.vocabulary import check_vocabulary
from shared.model.weights import check_shapes, check_weights

Step = DenseLayer | None
"""After pooling: a Dense layer, or None for Normalize."""


@dataclass(frozen=True)
class ModelDirectory:
    """The facts about a model on which API and worker must agree, read without loading it."""

    path: Path
    """Folder of the Transformer module: weights, config and tokenizer."""
    name: str
    revision: str
    """Hub commit, or for a local directory a digest of its files: 12 hex digits either way."""
    dimension: int
    max_seq_length: int
    """Longest text in tokens, special tokens and prompt counted."""
    pooling: tuple[PoolingMode, ...]
    """Their results are concatenated."""
    do_lower_case: bool
    prompt: str = ""
    """Stands before every text."""
    steps: tuple[Step, ...] = ()
    """What follows pooling, in order; the first `dimension` numbers are kept, and normalised."""

    def fingerprint(self, dtype: str) -> str:
        return f"{self.name}@{self.revision}:{dtype}"


def open_model(spec: ModelSpec, data_dir: Path, *, weights: bool, local_only: bool = False) -> ModelDirectory:
    """The model, downloaded under `data_dir` if it is a hub id and need be; the API needs no weights.

    A local directory must be complete for either role: its digest, which both must agree on, covers the weights.

    Raises:
        NotDownloaded: with `local_only`, it is not here yet.
        StartupError: it cannot be had, is not complete, or uses something that is not supported.
    """
    if spec.local.is_dir():
        files = files_of(spec.local, (module.folder for module in read_modules(spec.local)))
        return read_model(spec.local, spec.name, digest_of(spec.local, files), weights=True)
    if spec.id.startswith((".", "/", "~")):
        raise StartupError(f"MODEL_ID {spec.id} is not a directory.")
    path, commit = hub_snapshot(spec.id, spec.revision, model_files(weights), data_dir, local_only=local_only)
    others = [module.folder for module in read_modules(path) if not fetched_with_all(module.folder)]
    if others:
        patterns = model_files(weights, [*MODULE_FOLDERS, *others])
        path, _ = hub_snapshot(spec.id, commit, patterns, data_dir, local_only=local_only)
    return read_model(path, spec.name, commit[:12], weights=weights)


def read_model(path: Path, name: str, revision: str, *, weights: bool = True) -> ModelDirectory:
    """Read what sentence-transformers reads of a directory, without the numbers in its weights.

    Format: `SentenceTransformer.save` of sentence-transformers, or a plain transformers directory, which is pooled by
    mean. The result is always normalised: scores are cosines. `weights=False` passes over weights that are missing.

    Raises:
        StartupError: it is not complete, or asks for something that is not supported.
    """
    modules = read_modules(path)
    refuse_pointers(files_of(path, (module.folder for module in modules)))
    if not modules:
        _refuse_unlisted(path)
    folder = path / modules[0].folder if modules else path
    transformer = read_transformer(folder, saved=bool(modules))
    check_vocabulary(folder, transformer.vocab_size)
    if weights:
        check_weights(folder)
    pooling: tuple[PoolingMode, ...] = ("lasttoken",) if transformer.causal else ("mean",)
    pooled = ConfigFile(path, {})
    if modules:
        pooled = ConfigFile.required(path / modules[1].folder / "config.json")
        pooling = read_pooling(pooled, transformer.hidden)
    steps = _steps(path, modules[2:], len(pooling) * transformer.hidden, weights)
    defaults_file = ConfigFile.optional(path / DEFAULTS) if modules else ConfigFile(path, {})
    defaults = read_defaults(defaults_file, normalized=bool(steps) and steps[-1] is None)
    if defaults.prompt and not includes_prompt(pooled):
        raise pooled.refusal("include_prompt", "is false, which is not supported with a default prompt")
    layers = [step for step in steps if step]
    dimension = layers[-1].outputs if layers else len(pooling) * transformer.hidden
    return ModelDirectory(
        path=folder,
        name=name,
        revision=revision,
        dimension=min(dimension, defaults.truncate_dim or dimension),
        max_seq_length=transformer.max_seq_length,
        pooling=pooling,
        do_lower_case=transformer.do_lower_case,
        prompt=defaults.prompt,
        steps=steps,
    )


def _refuse_unlisted(path: Path) -> None:
    """sentence-transformers passes over its own files if there is no modules.json, which nobody means."""
    names = (*SENTENCE_CONFIGS, DEFAULTS, "*_Pooling/config.json", "*_Transformer/config.json")
    found = next((found for name in names for found in path.glob(name)), None)
    if found:
        raise StartupError(f"{path} has {found.relative_to(path)} but no modules.json: the directory is not complete.")


def _steps(path: Path, modules: tuple[Module, ...], width: int, weights: bool) -> tuple[Step, ...]:
    """`width` is that of the pooled vectors."""
    steps: list[Step] = []
    for module in modules:
        if module.kind == "Normalize":
            config = ConfigFile.optional(path / module.folder / "config.json")
            for field in ("module_input_name", "module_output_name"):
                if config.values.get(field) not in (None, "sentence_embedding"):
                    raise config.refusal(field, "is not sentence_embedding, which is not supported")
            steps.append(None)
            continue
        layer = read_dense(ConfigFile.required(path / module.folder / "config.json"), width)
        if weights:
            _check_dense(layer)
        steps.append(layer)
        width = layer.outputs
    return tuple(steps)


def _check_dense(layer: DenseLayer) -> None:
    if not layer.weights.exists():
        raise StartupError(f"{layer.weights} is missing: only the safetensors format is loaded.")
    check_shapes(layer.weights, layer.shapes)
