"""Text to token ids, as sentence-transformers does it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as Normalizers
from transformers import AutoTokenizer

from shared.model.directory import ModelDirectory
from shared.model.text import read_part

TokenIds = NDArray[np.int32]
"""Of one text, with its special tokens, [tokens]."""

PREFIX_CHARS = 65_536
"""Longer texts are first tokenised up to here; nearly always that fills the model's limit."""


class Tokenizer:
    """The tokenizer of one model directory.

    Raises (constructor):
        OSError, ValueError: the files are missing or broken.
    """

    def __init__(self, directory: ModelDirectory) -> None:
        self.limit = directory.max_seq_length
        """Most tokens of a text, special tokens counted."""
        self.transformers: Any = AutoTokenizer.from_pretrained(directory.path, local_files_only=True)
        self.pad_id = int(self.transformers.pad_token_id)
        self._lower_before = directory.do_lower_case and not self.transformers.is_fast
        if directory.do_lower_case and self.transformers.is_fast:
            backend = self.transformers.backend_tokenizer
            backend.normalizer = with_lowercase(backend.normalizer)

    def __call__(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text with its special tokens, cut on the right to the model's limit."""
        listed = self._token_ids([self._readable(self._clean(text)) for text in texts], self.limit)
        # Arrays are made here, in the tokenizer's thread: the model's thread would keep the device waiting for it.
        return [np.array(ids, np.int32) for ids in listed]

    def _clean(self, text: str) -> str:
        # Of a text whose prefix does not fill the limit (one endless word, say) not all is read: the tokenizer takes a
        # second for two million characters, and others wait.
        text = read_part(text)
        return text.lower() if self._lower_before else text

    def _readable(self, text: str) -> str:
        """The text, or as much of a very long one as the model can read."""
        prefix = text[:PREFIX_CHARS]
        if len(prefix) == len(text):
            return text
        # The cut can change the last word only, so a prefix of twice the limit is long enough.
        return prefix if len(self._token_ids([prefix], 2 * self.limit)[0]) == 2 * self.limit else text

    def _token_ids(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        if not texts:
            return []
        encoded = self.transformers(
            list(texts), truncation=True, max_length=limit, padding=False, return_attention_mask=False
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def with_lowercase(normalizer: Normalizer | None) -> Normalizer:
    """The normalizer, with `Lowercase` before it unless it has one.

    It lowers character by character, `str.lower` by context (a final sigma). Source: sentence-transformers 6.2,
    `Transformer.__init__`.
    """
    if normalizer is None:
        return Normalizers([Lowercase()])
    # A sequence is indexed, not iterated: its stubs know no more.
    steps = [normalizer[i] for i in range(len(normalizer))] if isinstance(normalizer, Normalizers) else [normalizer]
    return normalizer if any(isinstance(step, Lowercase) for step in steps) else Normalizers([Lowercase(), *steps])
