"""Text to token ids, as sentence-transformers does it."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as Normalizers
from transformers import AutoTokenizer

from shared.errors import StartupError
from shared.model.directory import ModelDirectory
from shared.model.text import READ_CHARS, read_part
from worker.engine.loading import loading

TokenIds = NDArray[np.int32]
"""Token ids of one text, with its special tokens, [tokens]."""

PREFIX_CHARS = 65_536
"""Longer texts are first tokenised up to here; nearly always that fills the model's limit."""
PROBE = "theorem Nat.add_comm (a b : Nat) : a + b = b + a"
"""A tokenizer that knows nothing of this text knows nothing of Lean."""


class Tokenizer:
    """The tokenizer of one model directory.

    Texts are stripped of outer white space, as sentence-transformers did until version 5.3, with which stored rows
    were made; version 6 no longer does. Without outer white space both give the same tokens.

    Raises (constructor):
        StartupError: the files are missing or broken, or leave every text unknown.
    """

    def __init__(self, directory: ModelDirectory) -> None:
        self.limit = directory.max_seq_length
        """Most tokens of a text, special tokens counted."""
        self._folder = directory.path
        self._prompt = directory.prompt
        _refuse_without_sentencepiece(directory.path)
        with loading(directory.path):
            self.transformers: Any = AutoTokenizer.from_pretrained(
                directory.path, local_files_only=True, trust_remote_code=False
            )
            self.pad_id: int | None = self.transformers.pad_token_id
            kind = type(self.transformers.backend_tokenizer.model) if self.transformers.is_fast else None
            self._from_left = kind in (WordPiece, BPE)
            self._lower_before = directory.do_lower_case and not self.transformers.is_fast
            if directory.do_lower_case and self.transformers.is_fast:
                backend = self.transformers.backend_tokenizer
                backend.normalizer = with_lowercase(backend.normalizer)
            self._refuse_ignorance()

    def __call__(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text with its special tokens, cut on the right to the model's limit.

        A text that cannot be read has no tokens, and so no embedding: one with a lone surrogate, or one that is cut at
        `READ_CHARS` and does not fill the limit up to there, for then its next words would count too.
        """
        parts = [self._readable(text) for text in texts]
        listed = iter(self._token_ids([part for part in parts if part is not None], self.limit))
        # Arrays are made here, in the tokenizer's thread: the model's thread would keep the device waiting for it.
        return [np.array([] if part is None else next(listed), np.int32) for part in parts]

    def refuse_ids_beyond(self, rows: int) -> None:
        """
        Raises:
            StartupError: a token's id has no row in an embedding of so many rows.
        """
        ids: dict[str, int] = self.transformers.get_vocab()
        token = max((token for token in ids if token), key=lambda token: ids[token])
        if ids[token] >= rows:
            raise StartupError(
                f"Model {self._folder}: token {token!r} has id {ids[token]}, but the embedding has {rows} rows."
            )

    def _refuse_ignorance(self) -> None:
        if len(self._token_ids([self._prompt], self.limit)[0]) == self.limit:
            reason = f"prompt and special tokens fill all {self.limit} tokens of a text"
            raise StartupError(f"Model {self._folder}: {reason}.")
        known = set(self._token_ids([PROBE], len(PROBE))[0])
        if not known - {self.transformers.unk_token_id, *self.transformers.all_special_ids}:
            raise StartupError(f"Model {self._folder}: its vocabulary knows no part of {PROBE!r}.")

    def _readable(self, text: str) -> str | None:
        """The text, or as much of a very long one as the model can read; None if neither can be had."""
        if not _is_unicode(text):
            return None
        # What the API process cut is not stripped again: its last space may stand amid the text.
        part = text if len(text) == READ_CHARS else read_part(text)
        cut = len(part) == READ_CHARS
        text = self._prompt + part
        text = text.lower() if self._lower_before else text
        chars = PREFIX_CHARS
        while chars < len(text):
            if self._is_enough(text[:chars]):
                return text[:chars]
            chars *= 4
        return None if cut and not self._is_enough(text) else text

    def _is_enough(self, prefix: str) -> bool:
        """True if every text that starts so has the same tokens up to the limit.

        A cut can change the last word. Byte pairs and word pieces are found from its left, so that a cut far behind the
        limit changes nothing before it. A Unigram model weighs the whole word, so that the limit must come before it.
        """
        if self._from_left:
            return len(self._token_ids([prefix], 2 * self.limit)[0]) == 2 * self.limit
        words = prefix.rstrip(" ").rpartition(" ")[0]
        return len(self._token_ids([words], self.limit + 1)[0]) > self.limit

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


def _is_unicode(text: str) -> bool:
    """False for a text with a lone surrogate, half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_without_sentencepiece(folder: Path) -> None:
    """transformers then tries other libraries, and blames these."""
    if any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        return
    model = next(folder.glob("*.model"), None)
    if model and find_spec("sentencepiece") is None:
        raise StartupError(
            f"{model} needs the sentencepiece package: install it, or save the tokenizer as tokenizer.json beside it."
        )
