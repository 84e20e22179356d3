"""From the vectors of a text's tokens to the vector of the text."""

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.model.pooling import PoolingMode


def pool(hidden: Tensor, offsets: Tensor, modes: Sequence[PoolingMode]) -> Tensor:
    """Reduce [tokens, width] to float32 [texts, modes x width]; text i is tokens offsets[i] to offsets[i + 1].

    Formulas: sentence-transformers' Pooling module, in which padding has no part; results of several modes are
    concatenated.
    """
    pooled = [_pool(hidden, offsets, mode) for mode in modes]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)


def _pool(hidden: Tensor, offsets: Tensor, mode: PoolingMode) -> Tensor:
    if mode == "cls":
        return hidden[offsets[:-1]].float()
    if mode == "lasttoken":
        return hidden[offsets[1:] - 1].float()
    lengths = offsets.diff().long()
    if mode in ("mean", "max"):
        return _reduce(hidden, lengths, mode)
    count = lengths.unsqueeze(1).float()
    if mode == "mean_sqrt_len_tokens":
        return _reduce(hidden, lengths, "mean") * count.sqrt()
    starts = torch.repeat_interleave(offsets[:-1], lengths, output_size=len(hidden))
    weights = torch.arange(1, len(hidden) + 1, device=hidden.device) - starts
    # Weighted by 1, 2, ... n, whose sum is n (n + 1) / 2.
    return _reduce(hidden * weights.unsqueeze(1), lengths, "mean") * (2 / (count + 1))


def _reduce(hidden: Tensor, lengths: Tensor, how: str) -> Tensor:
    # Unsafe leaves out a check that would make the host wait for the device; lengths come from the same place.
    return torch.segment_reduce(hidden.float(), how, lengths=lengths, axis=0, unsafe=True)
