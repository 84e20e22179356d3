"""The engine for every architecture that has no packed one: transformers' own forward pass, over padded batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shared.model.pooling import PoolingMode
from worker.engine.packing import to_device
from worker.engine.pooling import pool
from worker.engine.tokenizer import TokenIds


class PaddedModel:
    """Token ids to one vector a text."""

    padded = True

    def __init__(self, model: Any, pooling: Sequence[PoolingMode], pad_id: int) -> None:
        """`model` is on its device, in the type to compute in."""
        self.device: torch.device = model.device
        self.pooling = pooling
        self._model = model
        self._pad_id = pad_id

    @torch.inference_mode()
    def __call__(self, batch: Sequence[TokenIds]) -> Tensor:
        """Pooled vectors in the order of the batch, float32 [texts, pooled width], not normalised."""
        lengths = np.array([len(tokens) for tokens in batch])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self._pad_id, dtype=np.int64)
        ids[mask] = np.concatenate(batch)
        attention = to_device(mask.astype(np.int64), self.device)
        hidden = self._model(input_ids=to_device(ids, self.device), attention_mask=attention).last_hidden_state
        offsets = np.concatenate([[0], lengths.cumsum()])
        return pool(hidden[attention.bool()], to_device(offsets, self.device), self.pooling)
