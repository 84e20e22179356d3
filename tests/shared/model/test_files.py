"""The list of files that are downloaded and digested, against what transformers' tokenizers read."""

import ast
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from shared.model.files import TOKENIZER_FILES, model_files

NOT_OF_TEXT_ENCODERS = {
    "normalizer.json",
    "source.spm",
    "target.spm",
    "target_vocab.json",
    "vocab-src.json",
    "vocab-tgt.json",
    "word_pronunciation.json",
    "word_shape.json",
}
"""Of translators, speech recognisers and tokenizers that need further packages."""


def names_in_transformers() -> set[str]:
    """Every file name in a VOCAB_FILES_NAMES of transformers."""
    package = find_spec("transformers")
    assert package and package.submodule_search_locations
    names = set()
    for path in Path(package.submodule_search_locations[0]).glob("models/*/tokenization_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
                if targets == ["VOCAB_FILES_NAMES"]:
                    names |= {value.value for value in node.value.values if isinstance(value, ast.Constant)}
    return {str(name) for name in names}


def test_every_file_of_a_tokenizer_is_in_the_list() -> None:
    names = names_in_transformers()
    assert {"vocab.txt", "sentencepiece.bpe.model", "spiece.model"} <= names
    missing = {name for name in names if not any(fnmatch(name, pattern) for pattern in TOKENIZER_FILES)}
    assert missing == NOT_OF_TEXT_ENCODERS


def test_no_pattern_takes_a_pickle_or_the_weights_that_were_not_asked_for() -> None:
    for name in ("pytorch_model.bin", "1_Pooling/pytorch_model.bin", "pytorch_model.bin.index.json"):
        assert not any(fnmatch(name, pattern) for pattern in model_files(True))
    for name in ("model.safetensors", "2_Dense/model.safetensors", "model-00001-of-00002.safetensors"):
        assert any(fnmatch(name, pattern) for pattern in model_files(True))
        assert not any(fnmatch(name, pattern) for pattern in model_files(False))
