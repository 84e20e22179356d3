"""The tokenizer's files: whether there is a vocabulary, and whether the embedding has a row for each of its tokens."""

from collections.abc import Iterator
from pathlib import Path

from shared.errors import StartupError
from shared.model.config_file import ConfigFile, shown
from shared.model.files import VOCABULARIES


def check_vocabulary(folder: Path, vocab_size: int | None) -> None:
    """`vocab_size` is the number of rows of the embedding, if config.json says it.

    Raises:
        StartupError: there is no vocabulary, a file is odd, or a token's id is beyond the embedding.
    """
    if not any(next(folder.glob(name), None) for name in VOCABULARIES):
        raise StartupError(f"{folder} has no vocabulary, such as {', '.join(VOCABULARIES[:5:2])}.")
    whole = (folder / "tokenizer.json").exists()
    if not whole and (folder / "vocab.json").exists() != (folder / "merges.txt").exists():
        raise StartupError(f"{folder} has one of vocab.json and merges.txt; a tokenizer needs both.")
    if vocab_size is None:
        return
    listed = _tokenizer_json(folder) if whole else _word_lists(folder)
    for path, token, number in (*listed, *_added(folder)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise StartupError(f"{path}: the id of token {shown(token)} is {shown(number)}, not a number.")
        if number >= vocab_size:
            raise StartupError(
                f"{path}: token {shown(token)} has id {number}, but the embedding has {vocab_size} rows."
            )


Numbered = tuple[Path, object, object]
"""File, token and its id."""


def _tokenizer_json(folder: Path) -> Iterator[Numbered]:
    """Format: tokenizers, `Tokenizer.to_str`."""
    file = ConfigFile.required(folder / "tokenizer.json")
    model = file.values.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        yield from ((file.path, token, number) for token, number in vocabulary.items())
    elif isinstance(vocabulary, list):  # a Unigram model's: pairs of token and score
        yield from ((file.path, entry, number) for number, entry in enumerate(vocabulary))
    else:
        raise file.refusal("model", "has no vocab")
    for entry in file.values.get("added_tokens") or []:
        if not isinstance(entry, dict):
            raise file.refusal("added_tokens", f"has {shown(entry)}, not an object")
        yield file.path, entry.get("content"), entry.get("id")


def _word_lists(folder: Path) -> Iterator[Numbered]:
    words = ConfigFile.optional(folder / "vocab.json")
    yield from ((words.path, word, number) for word, number in words.values.items())
    lines = folder / "vocab.txt"
    if lines.exists():
        try:
            words_in_order = lines.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"{lines} cannot be read: {error}.") from None
        yield from ((lines, word, number) for number, word in enumerate(words_in_order))


def _added(folder: Path) -> Iterator[Numbered]:
    added = ConfigFile.optional(folder / "added_tokens.json")
    yield from ((added.path, token, number) for token, number in added.values.items())
    config = ConfigFile.optional(folder / "tokenizer_config.json")
    decoder = config.values.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict) or not all(number.isdecimal() for number in decoder):
        raise config.refusal("added_tokens_decoder", f"is {shown(decoder)}, not an object of ids")
    for number, entry in decoder.items():
        yield config.path, entry.get("content") if isinstance(entry, dict) else entry, int(number)
