"""The files of a model directory that are used: one list for downloads and for a local directory's digest."""

import glob
from collections.abc import Iterable
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from shared.errors import StartupError

MODULES = "modules.json"
DEFAULTS = "config_sentence_transformers.json"
SENTENCE_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""Of the Transformer module, the first that is there counts (sentence-transformers, `Transformer.load_config`)."""
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.*.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
    "spm_char.model",
    "tokenizer.model",
    "tiktoken.model",
    "prophetnet.tokenizer",
    "byte_maps.json",
)
"""Any of these is a vocabulary, for one tokenizer class of transformers or another."""
TOKENIZER_FILES = (
    *VOCABULARIES,
    "merges.txt",
    "bpe.codes",
    "dict.txt",
    "emoji.json",
    "entity_vocab.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
# An adapter is looked for only to be refused.
TRANSFORMER_FILES = ("config.json", "adapter_config.json", *SENTENCE_CONFIGS, *TOKENIZER_FILES)
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
WEIGHT_PART = "model-*.safetensors"
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""Never fetched, never loaded: a pickle runs code."""
MODULE_FOLDERS = ("*_Transformer", "*_Pooling", "*_Dense", "*_Normalize")
"""Folders as sentence-transformers names them; modules.json may name others."""
POINTER = b"version https://git-lfs.github.com/spec/"


def model_files(weights: bool, folders: Iterable[str] = MODULE_FOLDERS) -> tuple[str, ...]:
    """Patterns of the files that are used, those of modules in `folders` too; the API downloads no weights."""
    names = (*TRANSFORMER_FILES, *((WEIGHTS, WEIGHTS_INDEX, WEIGHT_PART) if weights else ()))
    in_folders = (f"{folder}/{name}" for folder in folders for name in names)
    return (MODULES, DEFAULTS, *names, *in_folders)


def fetched_with_all(folder: str) -> bool:
    """Whether the default `MODULE_FOLDERS` cover a module's folder; the empty one is the directory itself."""
    return not folder or any(fnmatch(folder, pattern) for pattern in MODULE_FOLDERS)


def files_of(directory: Path, folders: Iterable[str]) -> list[Path]:
    """The used files that are there, weights included, sorted."""
    patterns = model_files(True, [glob.escape(folder) for folder in folders if folder])
    return sorted({path for pattern in patterns for path in directory.glob(pattern) if path.is_file()})


def digest_of(directory: Path, files: Iterable[Path]) -> str:
    """12 hex digits that change with any byte or name of the files.

    Raises:
        StartupError: a file cannot be read.
    """
    digest = sha256()
    for path in files:
        content = sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    content.update(block)
        except OSError as error:
            raise StartupError(f"{path} cannot be read: {error.strerror}.") from None
        digest.update(f"{path.relative_to(directory)}:{content.hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def refuse_pointers(files: Iterable[Path]) -> None:
    """
    Raises:
        StartupError: a file cannot be read, or is the pointer that git-lfs leaves in a file's place.
    """
    for path in files:
        try:
            with path.open("rb") as file:
                start = file.read(len(POINTER))
        except OSError as error:
            raise StartupError(f"{path} cannot be read: {error.strerror}.") from None
        if start == POINTER:
            raise pointer_error(path)


def pointer_error(path: Path) -> StartupError:
    return StartupError(f"{path} is a git-lfs pointer, not the file: run `git lfs pull` in its directory.")
