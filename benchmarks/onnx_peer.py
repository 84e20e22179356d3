"""onnxruntime as a peer of the embedding benchmark; needs onnxruntime, onnx and onnxscript, which nothing else does."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModel

from shared.model.directory import ModelDirectory
from worker.batch_rule import take_batch
from worker.engine.tokenizer import TokenIds, Tokenizer

BUDGET = 2_048


class OnnxPeer:
    """The transformer exported to ONNX, mean pooling in numpy; batches of near lengths, padded."""

    def __init__(self, directory: ModelDirectory, folder: Path, threads: int) -> None:
        """Raises ImportError: onnxruntime, or what the export needs, is not installed."""
        import onnxruntime

        self._tokenizer = Tokenizer(directory)
        path = folder / "model.onnx"
        _export(directory, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads would keep a core busy while the next engine is measured.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, float32 [len(texts), dimension]."""
        rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(texts)
        waiting = list(enumerate(self._tokenizer(texts)))
        while waiting:
            taken = set(take_batch([len(tokens) for _, tokens in waiting], BUDGET, padded=True))
            batch = [entry for i, entry in enumerate(waiting) if i in taken]
            waiting = [entry for i, entry in enumerate(waiting) if i not in taken]
            for (text, _), row in zip(batch, self._embed([tokens for _, tokens in batch]), strict=True):
                rows[text] = row
        return np.stack(rows)

    def _embed(self, batch: Sequence[TokenIds]) -> NDArray[np.float32]:
        lengths = np.array([len(tokens) for tokens in batch])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self._tokenizer.pad_id, np.int64)
        ids[mask] = np.concatenate(batch)
        (hidden,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask.astype(np.int64)})
        means = np.einsum("tnd,tn->td", hidden, mask.astype(np.float32)) / lengths[:, None]
        unit: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return unit


class _Hidden(torch.nn.Module):
    def __init__(self, directory: ModelDirectory) -> None:
        super().__init__()
        # Eager attention: the exporter has no pattern for the fused one with a mask of changing size.
        self.model: Any = AutoModel.from_pretrained(directory.path, attn_implementation="eager").eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return hidden


def _export(directory: ModelDirectory, path: Path) -> None:
    example = torch.ones((2, 16), dtype=torch.long) * 5
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=512)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            _Hidden(directory),
            (example, torch.ones_like(example)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
            verbose=False,
        )
