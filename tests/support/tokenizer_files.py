"""The files of a tokenizer trained on a few texts: of each kind, with nothing else."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, SentencePieceUnigramTokenizer
from transformers.convert_slow_tokenizer import import_protobuf

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
WriteFiles = Callable[[Path, Sequence[str]], int]
"""Writes a tokenizer's files into a directory; returns the number of tokens."""


def word_pieces(directory: Path, texts: Sequence[str]) -> int:
    """vocab.txt, of BERT and its kind."""
    trained = BertWordPieceTokenizer()
    trained.train_from_iterator(texts, vocab_size=600, show_progress=False)
    trained.save_model(str(directory))
    return int(trained.get_vocab_size())


def byte_pairs(directory: Path, texts: Sequence[str]) -> int:
    """vocab.json and merges.txt, of RoBERTa and GPT."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=2_000, special_tokens=SPECIALS, show_progress=False)
    trained.save_model(str(directory))
    return int(trained.get_vocab_size())


def unigrams(directory: Path, texts: Sequence[str]) -> int:
    """tokenizer.json as of XLM-RoBERTa: a Unigram model, `<s>` and `</s>` around a text."""
    trained = _trained_unigrams(texts)
    whole = json.loads(trained.to_str())
    whole["model"]["vocab"].append(["<mask>", 0.0])
    size = len(whole["model"]["vocab"])
    _write(directory / "tokenizer.json", whole)
    _write(directory / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    return size


def sentence_piece(directory: Path, texts: Sequence[str]) -> int:
    """sentencepiece.bpe.model and nothing else, as the first XLM-RoBERTa models have it."""
    proto: Any = import_protobuf().ModelProto()  # type: ignore[no-untyped-call]  # transformers has no types here
    proto.trainer_spec.model_type = 1
    proto.trainer_spec.unk_id = 0
    kinds = {"<unk>": 2, "<s>": 3, "</s>": 3}
    pieces = json.loads(_trained_unigrams(texts).to_str())["model"]["vocab"]
    ordinary = [(piece, score) for piece, score in pieces if piece not in SPECIALS]
    for piece, score in [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *ordinary]:
        entry = proto.pieces.add()
        entry.piece, entry.score, entry.type = piece, score, kinds.get(piece, 1)
    (directory / "sentencepiece.bpe.model").write_bytes(proto.SerializeToString())
    return len(proto.pieces) + 2  # transformers adds <pad> and <mask>


def _trained_unigrams(texts: Sequence[str]) -> SentencePieceUnigramTokenizer:
    trained = SentencePieceUnigramTokenizer()
    trained.train_from_iterator(
        texts, vocab_size=600, special_tokens=SPECIALS[:4], unk_token="<unk>", show_progress=False
    )
    return trained


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
