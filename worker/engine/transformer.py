"""The transformer of a model directory, loaded whole or not at all."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from shared.errors import StartupError
from worker.engine.loading import loading


def load_transformer(folder: Path, dtype: torch.dtype) -> Any:
    """A transformers model in `dtype` on the CPU.

    transformers fills what a file lacks with random numbers and goes on; here that is an error. Only the pooler is
    left aside, for nothing reads it.

    Raises:
        StartupError: it cannot be loaded, or a parameter is missing, of another shape or not finite.
    """
    with loading(folder):
        model, found = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, with their shapes
        )
    _refuse_mismatched(folder, found["mismatched_keys"])
    _refuse_missing(folder, found["missing_keys"], found["unexpected_keys"])
    for name, parameter in model.named_parameters():
        if not _of_pooler(name) and not torch.isfinite(parameter).all():
            kind = str(dtype).removeprefix("torch.")
            raise StartupError(f"Model {folder}: weight {name} has numbers that are not finite in {kind}.")
    model.eval().requires_grad_(False)
    return model


def _refuse_mismatched(folder: Path, mismatched: Iterable[tuple[str, torch.Size, torch.Size]]) -> None:
    for name, stored, expected in sorted(mismatched):
        if not _of_pooler(name):
            raise StartupError(
                f"Model {folder}: weight {name} has shape {list(stored)}, but config.json asks for {list(expected)}."
            )


def _refuse_missing(folder: Path, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    lacking = sorted(name for name in missing if not _of_pooler(name))
    if not lacking:
        return
    others = sorted(unexpected)
    stranger = f", while {others[0]} belongs to no part of the model" if others else ""
    count = f" and {len(lacking) - 1} more weights" if len(lacking) > 1 else ""
    raise StartupError(f"Model {folder}: its weights lack {lacking[0]}{count}{stranger}.")


def _of_pooler(name: str) -> bool:
    return "pooler" in name.split(".")
