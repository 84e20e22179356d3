"""The engine for BERT and RoBERTa encoders: the same function as transformers', over packed batches.

What makes it fast: no padding, one matrix for Q, K and V, linear layers prepacked with GELU and residual fused in,
and attention without a mask. docs/benchmarks.md has the share of each.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertModel, CamembertModel, RobertaModel, XLMRobertaModel

from shared.model.pooling import PoolingMode
from worker.engine.attention import attend
from worker.engine.linear import linear
from worker.engine.packing import Packing, evened, pack
from worker.engine.pooling import pool
from worker.engine.tokenizer import TokenIds

ROBERTA = (RobertaModel, XLMRobertaModel, CamembertModel)


class PackedModel:
    """Token ids to one vector a text; takes the weights of a transformers model that `can_pack` accepts."""

    padded = False

    def __init__(self, model: Any, pooling: Sequence[PoolingMode]) -> None:
        """`model` is on its device, in the type to compute in."""
        embeddings = model.embeddings
        self.device: torch.device = model.device
        self.pooling = pooling
        self._padding_id: int | None = embeddings.padding_idx if isinstance(model, ROBERTA) else None
        self._words: Tensor = embeddings.word_embeddings.weight
        # Texts come one by one, never in pairs: every token has type 0.
        self._positions: Tensor = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self._norm = _LayerNorm(embeddings.LayerNorm)
        self._layers = [_Layer(layer) for layer in model.encoder.layer]

    @torch.inference_mode()
    def __call__(self, batch: Sequence[TokenIds]) -> Tensor:
        """Pooled vectors in the order of the batch, float32 [texts, pooled width], not normalised."""
        whole = evened(batch) if self.device.type == "cpu" else batch
        packing = pack(whole, self._padding_id, self.device)
        return pool(self._hidden(packing), packing.offsets, self.pooling)[packing.row_of[: len(batch)]]

    def _hidden(self, packing: Packing) -> Tensor:
        """The last layer's state of every token, [tokens, dimension]."""
        x = F.embedding(packing.ids, self._words)
        x = self._norm(x.add_(F.embedding(packing.positions, self._positions)))
        for layer in self._layers:
            x = layer(x, packing)
        return x


def can_pack(model: Any) -> bool:
    """Whether `PackedModel` computes the same function as this transformers model."""
    config = model.config
    return (
        isinstance(model, (BertModel, *ROBERTA))
        and not config.is_decoder
        and config.hidden_act == "gelu"
        and config.hidden_size % config.num_attention_heads == 0
    )


class _LayerNorm:
    def __init__(self, module: Any) -> None:
        self._shape: list[int] = list(module.normalized_shape)
        self._weight: Tensor = module.weight
        self._bias: Tensor = module.bias
        self._eps: float = module.eps

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


class _Layer:
    """Attention and feed-forward, each followed by residual and layer norm.

    Source: transformers, `BertLayer` and `RobertaLayer`, which are the same.
    """

    def __init__(self, layer: Any) -> None:
        attention = layer.attention.self
        parts = (attention.query, attention.key, attention.value)
        self._heads = int(attention.num_attention_heads)
        self._qkv = linear(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        self._out = linear(layer.attention.output.dense.weight, layer.attention.output.dense.bias)
        self._norm = _LayerNorm(layer.attention.output.LayerNorm)
        self._up = linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True)
        self._down = linear(layer.output.dense.weight, layer.output.dense.bias)
        self._last_norm = _LayerNorm(layer.output.LayerNorm)

    def __call__(self, x: Tensor, packing: Packing) -> Tensor:
        x = self._norm(self._out(attend(self._qkv(x), packing, self._heads), residual=x))
        return self._last_norm(self._down(self._up(x), residual=x))
