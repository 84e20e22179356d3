"""Text to vector: tokenizer and transformer of one sentence-transformers model on one device."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from shared.errors import StartupError
from shared.model.directory import ModelDirectory
from shared.settings import Settings
from shared.vectors import Vectors
from worker.engine.head import Head
from worker.engine.loading import loading
from worker.engine.packed_model import PackedModel, can_pack
from worker.engine.padded_model import PaddedModel
from worker.engine.tokenizer import PROBE, TokenIds, Tokenizer
from worker.engine.transformer import load_transformer

logger = logging.getLogger(__name__)


CPU_BATCH_TOKENS = 2_048
"""A CPU gains nothing from larger batches, and a waiting state loses a lot: docs/benchmarks.md has the curve."""


class Encoder(Protocol):
    """What a worker needs of a model."""

    dimension: int
    batch_tokens: int
    """Largest budget of tokens in a batch that makes sense on this device."""
    device_name: str
    """Where it computes, for people."""
    padded: bool
    """Whether a batch costs its longest text times its texts, or the sum of its tokens."""

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]: ...

    def embed(self, batch: Sequence[TokenIds]) -> Vectors:
        """Unit vectors, float32 [len(batch), dimension]; a row that could not be computed is not finite."""
        ...


class TorchEncoder:
    """The engine that fits the model and the device."""

    def __init__(self, directory: ModelDirectory, settings: Settings, *, packed: bool = True) -> None:
        """`packed=False` takes the padded engine, which every architecture has.

        Raises:
            StartupError: the model cannot be loaded, or the device is not there.
        """
        self.directory = directory
        self.device = device_of(settings.device)
        if self.device.type == "cpu" and settings.torch_threads:
            torch.set_num_threads(settings.torch_threads)
        # No TF32 on a GPU, whatever the environment says: it costs float32 two digits.
        torch.set_float32_matmul_precision("highest")
        self.device_name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        self.dtype = compute_dtype(settings.dtype, self.device)
        model = load_transformer(directory.path, self.dtype)
        self.tokenizer = Tokenizer(directory)
        self.tokenizer.refuse_ids_beyond(len(model.get_input_embeddings().weight))
        _refuse_longer_than_positions(directory, model.config)
        with loading(directory.path):
            self._model = self._engine(model.to(self.device), packed)
        self._head = Head(directory, self.device)
        self.padded = self._model.padded
        self.dimension = directory.dimension
        cap = settings.max_batch_tokens
        self.batch_tokens = min(cap, CPU_BATCH_TOKENS) if self.device.type == "cpu" else cap
        self._prove()

    def _engine(self, model: Any, packed: bool) -> PackedModel | PaddedModel:
        if packed and can_pack(model):
            return PackedModel(model, self.directory.pooling)
        if self.tokenizer.pad_id is None:
            raise StartupError(f"Model {self.directory.path}: its tokenizer has no pad token.")
        return PaddedModel(model, self.directory.pooling, self.tokenizer.pad_id)

    def _prove(self) -> None:
        """Embed a text, so that a model that cannot is refused at start."""
        with loading(self.directory.path):
            vectors = self.embed(self.tokenize([PROBE]))
        if not np.isfinite(vectors).all():
            raise StartupError(f"Model {self.directory.path} has no finite embedding for {PROBE!r}.")

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text with its special tokens, cut on the right to the model's limit."""
        return self.tokenizer(texts)

    def embed(self, batch: Sequence[TokenIds]) -> Vectors:
        vectors = np.full((len(batch), self.dimension), np.nan, dtype=np.float32)
        # A tokenizer without special tokens may make nothing of a text, and nothing has no embedding.
        there = [i for i, tokens in enumerate(batch) if len(tokens)]
        if there:
            vectors[there] = self._head(self._model([batch[i] for i in there])).cpu().numpy()
        return vectors


def compute_dtype(name: str, device: torch.device, capabilities: Mapping[str, Any] | None = None) -> torch.dtype:
    """The type to compute in for DTYPE `name`: float32 on a CPU without instructions for the half type asked for.

    Such a CPU would widen every number and be slower than in float32, which is also more exact.
    """
    wanted: torch.dtype = getattr(torch, name)
    if device.type != "cpu" or wanted == torch.float32:
        return wanted
    present = torch.cpu.get_capabilities() if capabilities is None else capabilities
    features = {torch.bfloat16: ("avx512_bf16", "amx_bf16"), torch.float16: ("avx512_fp16", "amx_fp16")}[wanted]
    # Elsewhere than on x86 torch does not tell; there the setting is believed.
    if present.get("architecture") == "x86_64" and not any(present.get(feature) for feature in features):
        logger.warning("this CPU has no %s instructions: the model runs in float32, which is faster on it", name)
        return torch.float32
    return wanted


def _refuse_longer_than_positions(directory: ModelDirectory, config: Any) -> None:
    """config.json may leave out what the model's class then sets."""
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < directory.max_seq_length:
        longest = directory.max_seq_length
        raise StartupError(
            f"Model {directory.path} has {positions} positions, but its longest text {longest} tokens: "
            "config.json lacks max_position_embeddings."
        )


def device_of(name: str) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise StartupError("DEVICE is cuda, but torch sees no CUDA device; install a CUDA build or use DEVICE=cpu.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
