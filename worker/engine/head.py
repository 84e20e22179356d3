"""From a text's pooled vector to its embedding: Dense and Normalize modules, truncation, unit length."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from shared.errors import StartupError
from shared.model.dense import Activation, DenseLayer
from shared.model.directory import ModelDirectory
from worker.engine.loading import loading

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": F.relu,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "Sigmoid": torch.sigmoid,
}


class Head:
    """What a model does after pooling, always in float32."""

    def __init__(self, directory: ModelDirectory, device: torch.device) -> None:
        """
        Raises:
            StartupError: a Dense module's weights cannot be loaded, or are not finite.
        """
        self._dimension = directory.dimension
        self._steps: list[Callable[[Tensor], Tensor]] = [
            _Dense(step, device) if step else F.normalize for step in directory.steps
        ]

    def __call__(self, pooled: Tensor) -> Tensor:
        """Unit vectors, float32 [texts, dimension], of float32 [texts, pooled width]; a zero vector becomes NaN."""
        rows = pooled
        for step in self._steps:
            rows = step(rows)
        rows = rows[:, : self._dimension]
        # Without an epsilon: the batcher reports what is not a number.
        unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
        return unit


class _Dense:
    def __init__(self, layer: DenseLayer, device: torch.device) -> None:
        with loading(layer.weights.parent):
            tensors: dict[str, Any] = load_file(layer.weights)
            parts = {name: tensor.to(device, torch.float32) for name, tensor in tensors.items()}
        for name, tensor in parts.items():
            if not torch.isfinite(tensor).all():
                raise StartupError(f"{layer.weights}: weight {name} has numbers that are not finite.")
        self._weight: Tensor = parts["linear.weight"]
        self._bias: Tensor | None = parts.get("linear.bias")
        self._activation = _ACTIVATIONS[layer.activation]

    def __call__(self, x: Tensor) -> Tensor:
        return self._activation(F.linear(x, self._weight, self._bias))
