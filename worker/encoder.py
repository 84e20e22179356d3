"""Text to vector: tokenizer and transformer of one sentence-transformers model on one device."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from shared.errors import StartupError
from shared.model_directory import ModelDirectory, Pooling
from shared.settings import Settings

TokenIds = list[int]
Vectors = NDArray[np.float32]

PREFIX_CHARS = 65_536
"""Longer texts are first tokenised up to here; nearly always that fills the model's limit."""
MAX_CHARS = 4 * PREFIX_CHARS
"""Of a text whose prefix does not fill the limit (one endless word, say), no more is read: the tokenizer takes a second
for two million characters, and others wait."""
CPU_BATCH_TOKENS = 4_096
"""A CPU gains nothing from larger batches (they leave its caches), and a waiting state loses a lot."""


class Encoder(Protocol):
    """What the batcher needs of a model."""

    dimension: int
    batch_tokens: int
    """Largest budget of padded tokens that makes sense on this device."""

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]: ...

    def embed(self, batch: Sequence[TokenIds]) -> Vectors:
        """Unit vectors, float32 [len(batch), dimension]; a row that could not be computed is not finite."""
        ...


class TorchEncoder:
    """transformers + torch."""

    def __init__(self, directory: ModelDirectory, settings: Settings) -> None:
        self.directory = directory
        self.device = _device(settings.device)
        if self.device.type == "cpu" and settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(directory.path, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(
                directory.path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=getattr(torch, settings.dtype),
            )
        except (OSError, ValueError) as error:
            raise StartupError(f"Model {directory.path} cannot be loaded: {str(error).splitlines()[0]}") from None
        self._model.eval().to(self.device)
        self._pad_id = int(self.tokenizer.pad_token_id)
        self.dimension = directory.dimension
        cap = settings.max_batch_tokens
        self.batch_tokens = min(cap, CPU_BATCH_TOKENS) if self.device.type == "cpu" else cap

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text with its special tokens, cut on the right to the model's limit."""
        limit = self.directory.max_seq_length
        return self._token_ids([self._prefix(self._clean(text), limit) for text in texts], limit)

    def embed(self, batch: Sequence[TokenIds]) -> Vectors:
        width = max(len(tokens) for tokens in batch)
        ids = np.full((len(batch), width), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        with torch.inference_mode():
            attention = torch.from_numpy(mask).to(self.device)
            hidden = self._model(
                input_ids=torch.from_numpy(ids).to(self.device), attention_mask=attention
            ).last_hidden_state
            pooled = pool(hidden.float(), attention, self.directory.pooling)
            # Without an epsilon: a zero vector becomes not-a-number, which the batcher reports.
            vectors: Vectors = (pooled / pooled.norm(dim=1, keepdim=True)).cpu().numpy()
        return vectors

    def _clean(self, text: str) -> str:
        text = text.strip()
        return text.lower() if self.directory.do_lower_case else text

    def _prefix(self, text: str, limit: int) -> str:
        """The text, or as much of a very long one as the model can read."""
        prefix = text[:PREFIX_CHARS]
        if len(prefix) == len(text):
            return text
        text = text[:MAX_CHARS]
        # The cut can change the last word only, so a prefix of twice the limit is long enough.
        return prefix if len(self._token_ids([prefix], 2 * limit)[0]) == 2 * limit else text

    def _token_ids(self, texts: Sequence[str], limit: int) -> list[TokenIds]:
        if not texts:
            return []
        encoded = self.tokenizer(
            list(texts), truncation=True, max_length=limit, padding=False, return_attention_mask=False
        )
        ids: list[TokenIds] = encoded["input_ids"]
        return ids


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Reduce [batch, tokens, dimension] to [batch, dimension] over the tokens that `mask` marks.

    Formulas: sentence-transformers' Pooling module, modes mean, cls and max.
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    match pooling:
        case "cls":
            return hidden[:, 0]
        case "max":
            return hidden.masked_fill(weights == 0, -torch.inf).amax(dim=1)
        case "mean":
            return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def _device(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise StartupError("DEVICE is cuda, but torch sees no CUDA device; install a CUDA build or use DEVICE=cpu.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
