"""The texts of a batch one after the other in one row of tokens, so that nothing is computed on padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.tokenizer import TokenIds

Ints = NDArray[np.int32]

COARSE, FINE = 64, 16
"""Sizes of batches on a CPU: multiples of these, of the finer one up to FINE_UP_TO tokens."""
FINE_UP_TO = 256


@dataclass(frozen=True)
class Packing:
    """Where each text lies. Texts are sorted by length, so that equal lengths are neighbours."""

    ids: Tensor
    """int32 [tokens], on the device."""
    positions: Tensor
    """int32 [tokens], rows of the position embedding."""
    offsets: Tensor
    """int32 [texts + 1]: text i is tokens offsets[i] to offsets[i + 1]."""
    groups: list[tuple[int, int]]
    """(length, number of texts) of neighbours of equal length, in order."""
    row_of: Tensor
    """int64 [texts]: which packed text the batch's i-th text is."""


def pack(batch: Sequence[TokenIds], padding_id: int | None, device: torch.device) -> Packing:
    """Pack the token ids of at least one text; `padding_id` as in `positions`."""
    order = np.argsort([len(text) for text in batch], kind="stable")
    lengths = np.array([len(batch[i]) for i in order], dtype=np.int32)
    ids = np.concatenate([batch[i] for i in order])
    offsets = np.concatenate([np.zeros(1, np.int32), lengths.cumsum(dtype=np.int32)])
    row_of = np.empty(len(batch), np.int64)
    row_of[order] = np.arange(len(batch))
    return Packing(
        ids=to_device(ids, device),
        positions=to_device(positions(ids, offsets, padding_id), device),
        offsets=to_device(offsets, device),
        groups=[(length, len(list(texts))) for length, texts in groupby(lengths.tolist())],
        row_of=to_device(row_of, device),
    )


def evened(batch: Sequence[TokenIds]) -> list[TokenIds]:
    """The batch and as many texts of one token as bring it to one of few sizes.

    oneDNN writes and keeps code for each size that it meets, and the allocator has no use for the room that tensors of
    another size left: after 1,500 batches of any size a process had grown by 1.6 GB, with these by 0.2.
    """
    tokens = sum(map(len, batch))
    step = FINE if tokens <= FINE_UP_TO else COARSE
    return [*batch, *[batch[0][:1]] * (-tokens % step)]


def positions(ids: Ints, offsets: Ints, padding_id: int | None) -> Ints:
    """Row of the position embedding for each token, int32 [tokens].

    BERT (`padding_id` None) counts from 0. RoBERTa counts from padding_id + 1 and over tokens that are not padding,
    which stand at padding_id themselves; a text may spell that token out. Source: transformers,
    `RobertaEmbeddings.create_position_ids_from_input_ids`.
    """
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    if padding_id is None:
        return np.arange(len(ids), dtype=np.int32) - starts
    real = ids != padding_id
    before = np.concatenate([np.zeros(1, np.int32), real.cumsum(dtype=np.int32)])
    return np.where(real, before[1:] - before[starts] + np.int32(padding_id), np.int32(padding_id))


def to_device(values: NDArray[np.integer], device: torch.device) -> Tensor:
    """A tensor on the device; a GPU copies while the host goes on, which takes pinned memory."""
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
