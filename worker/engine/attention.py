"""Attention within each text of a packed batch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine.packing import Packing


def attend(qkv: Tensor, packing: Packing, heads: int) -> Tensor:
    """Softmax(QKᵀ / √d) V of every text and head: [tokens, 3 x heads x d] to [tokens, heads x d]."""
    parts = qkv.view(len(qkv), 3, heads, -1)
    attended = _flash(parts, packing) if _has_flash(parts) else _grouped(parts, packing)
    return attended.reshape(len(qkv), -1)


def _has_flash(qkv: Tensor) -> bool:
    """The kernels exist for half precision, Ampere and later, and heads of a multiple of 8 up to 256."""
    return (
        qkv.device.type == "cuda"
        and qkv.dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(qkv.device) >= (8, 0)
        and qkv.shape[-1] % 8 == 0
        and qkv.shape[-1] <= 256
    )


def _flash(qkv: Tensor, packing: Packing) -> Tensor:
    """One launch for all texts: flash attention with offsets, [tokens, heads, d].

    The operator under torch.nn.attention.varlen.varlen_attn, which adds a line of log and a kernel to every call.
    """
    q, k, v = qkv.unbind(1)
    offsets, longest = packing.offsets, packing.groups[-1][0]
    attended: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, offsets, offsets, longest, longest, 0.0, False, return_debug_mask=False
    )[0]
    return attended


def _grouped(qkv: Tensor, packing: Packing) -> Tensor:
    """One call for all texts of one length, so that no attention mask is needed and no padding computed."""
    done = []
    start = 0
    for length, texts in packing.groups:
        end = start + length * texts
        q, k, v = qkv[start:end].view(texts, length, *qkv.shape[1:]).permute(2, 0, 3, 1, 4).unbind(0)
        done.append(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1))
        start = end
    return done[0] if len(done) == 1 else torch.cat(done)
