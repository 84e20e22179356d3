"""From the vectors of a text's tokens to the vector of the text."""

import torch
from torch import Tensor

from shared.model.directory import Pooling


def pool(hidden: Tensor, offsets: Tensor, pooling: Pooling) -> Tensor:
    """Reduce [tokens, dimension] to float32 [texts, dimension]; text i is tokens offsets[i] to offsets[i + 1].

    Formulas: sentence-transformers' Pooling module, modes mean, cls and max.
    """
    if pooling == "cls":
        return hidden[offsets[:-1]].float()
    # Unsafe leaves out a check that would make the host wait for the device; lengths come from the same place.
    return torch.segment_reduce(hidden.float(), pooling, lengths=offsets.diff().long(), axis=0, unsafe=True)
