"""Linear layers of the packed model: prepacked for oneDNN on a CPU, torch's own elsewhere."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Linear(Protocol):
    """y = x Wᵀ + b, then exact GELU if the layer has it, then + residual if one is given.

    x: [tokens, in], residual and y: [tokens, out].
    """

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor: ...


def linear(weight: Tensor, bias: Tensor, *, gelu: bool = False) -> Linear:
    """The fastest layer for where `weight`, [out, in], lies."""
    kind = OneDnnLinear if weight.device.type == "cpu" and _can_prepack(weight.dtype) else TorchLinear
    return kind(weight, bias, gelu)


class OneDnnLinear:
    """Weights reordered once to the blocks oneDNN computes with; GELU and residual happen while a block is in cache.

    The operators are those that torch's own compiler emits for frozen weights (torch/_inductor/mkldnn_lowerings.py).
    A number of tokens that was not seen lately costs about a millisecond more, for oneDNN writes code for it; see
    `packing.evened`.
    """

    def __init__(self, weight: Tensor, bias: Tensor, gelu: bool) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._bias = bias
        self._activation: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y: Tensor
        if residual is None:
            y = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, *self._activation)
        else:
            y = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self._weight, self._bias, "add")
        return y


class TorchLinear:
    """cuBLAS on a GPU, MKL or whatever torch was built with on a CPU."""

    def __init__(self, weight: Tensor, bias: Tensor, gelu: bool) -> None:
        self._weight = weight.contiguous()
        self._bias = bias
        self._gelu = gelu

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = F.linear(x, self._weight, self._bias)
        if self._gelu:
            y = F.gelu(y)
        return y if residual is None else y.add_(residual)


def _can_prepack(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch has no types here
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
