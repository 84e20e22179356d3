"""`python -m benchmarks.simulated_device`: a worker whose model sleeps a fixed time a token instead of computing.

All else is the real worker: queue, batches, cache. For benchmarks of scaling, which one machine's cores could not show.

    TOKENS_PER_S=20000   speed of the simulated device
"""

import os
import time
from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import uvloop

from shared.model.directory import ModelDirectory
from shared.settings import Settings, load_settings
from shared.vectors import Vectors
from worker.engine.tokenizer import TokenIds
from worker.process import run_worker

TOKENS_PER_S = 20_000
BATCH_S = 0.1
"""A full batch's time, as on real devices: 2,048 tokens on a few CPU cores, 131,072 on a GPU."""
DIGEST_TOKENS = 8
"""The first token ids of a text are its digest, from which its vector is made."""


class SimulatedDevice:
    """An encoder that takes a device's time and none of a processor's."""

    device_name = "simulated"
    padded = False

    def __init__(self, directory: ModelDirectory, settings: Settings) -> None:
        self.dimension = directory.dimension
        self._tokens_per_s = float(os.environ.get("TOKENS_PER_S", TOKENS_PER_S))
        self.batch_tokens = min(settings.max_batch_tokens, int(BATCH_S * self._tokens_per_s))

    def tokenize(self, texts: Sequence[str]) -> list[TokenIds]:
        """As many tokens as Lean text of that length has: one for three bytes."""
        made = []
        for text in texts:
            tokens = np.zeros(max(DIGEST_TOKENS, len(text.encode()) // 3), np.int32)
            tokens[:DIGEST_TOKENS] = np.frombuffer(sha256(text.encode()).digest(), np.int32)
            made.append(tokens)
        return made

    def embed(self, batch: Sequence[TokenIds]) -> Vectors:
        """A unit vector of each text's digest, float32 [len(batch), dimension]."""
        time.sleep(sum(map(len, batch)) / self._tokens_per_s)
        digests = np.stack([tokens[:DIGEST_TOKENS] for tokens in batch]).astype(np.float32) / 2.0**31
        rows = np.resize(np.cos(digests @ np.outer(np.arange(1, DIGEST_TOKENS + 1), np.arange(self.dimension))),
                         (len(batch), self.dimension))  # fmt: skip
        unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


if __name__ == "__main__":
    uvloop.run(run_worker(load_settings(), SimulatedDevice))
