"""The Transformer module's configuration: width, longest text and lower case, from three files."""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import StartupError
from shared.model.config_file import ConfigFile, shown
from shared.model.files import SENTENCE_CONFIGS

UNLIMITED = 10**20
"""transformers takes a larger model_max_length for none."""
NUMBERED_FROM_PADDING = {
    "camembert",
    "data2vec-text",
    "ibert",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}
"""They number positions from the padding index + 1 (transformers, `create_position_ids_from_input_ids`)."""
ABSOLUTE = {"albert", "bert", "distilbert", "electra"}
"""They number positions from the first token, padding or not."""
_WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")
_POSITIONS = ("max_position_embeddings", "n_positions")
_SENTENCE_FIELDS = {
    "max_seq_length",
    "do_lower_case",
    "transformer_task",
    "modality_config",
    "module_output_name",
    "unpad_inputs",  # a matter of speed
}
_NOT_SUPPORTED = (
    "tokenizer_name_or_path",
    "cache_dir",
    "processing_kwargs",
    "query_length",
    "document_length",
    "query_expansion",
)
_ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
_HARMLESS_ARGUMENTS = {"trust_remote_code", "dtype", "torch_dtype", "attn_implementation"}
"""sentence-transformers drops the first, DTYPE stands for the next two, the last computes the same."""
_TEXT_ONLY = (
    {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    {"text": {"method": "forward", "method_output_name": ["last_hidden_state"]}},
)


@dataclass(frozen=True)
class TransformerConfig:
    hidden: int
    """Width of a token's vector."""
    max_seq_length: int
    """Longest text in tokens, special tokens counted."""
    do_lower_case: bool
    vocab_size: int | None
    causal: bool
    """Made to continue text: without a Pooling module sentence-transformers takes the last token's vector."""


def read_transformer(folder: Path, *, saved: bool) -> TransformerConfig:
    """Read `folder`. `saved` says whether sentence-transformers saved it, with modules.json; else it is a plain
    transformers model, of which sentence-transformers reads no file of its own.

    Raises:
        StartupError: a file is missing or odd, or asks for what is not supported.
    """
    config = ConfigFile.required(folder / "config.json")
    _refuse_unsupported(config)
    sentence = _sentence_config(folder) if saved else ConfigFile(folder, {})
    _refuse_arguments(sentence)
    tokenizer = ConfigFile.optional(folder / "tokenizer_config.json")
    _refuse_sides(tokenizer, str(config.values["model_type"]))
    has_template = tokenizer.values.get("chat_template") or (folder / "chat_template.jinja").exists()
    if not saved and has_template:
        raise StartupError(f"{folder} has a chat template and no modules.json: texts would be read as chat messages.")
    architecture = str((config.values.get("architectures") or [""])[0])
    return TransformerConfig(
        hidden=_hidden(config),
        max_seq_length=_max_seq_length(sentence, tokenizer, config),
        do_lower_case=bool(sentence.values.get("do_lower_case", False)),
        vocab_size=config.integer("vocab_size"),
        causal=architecture.endswith("ForCausalLM") and bool(config.values.get("is_causal", True)),
    )


def _refuse_unsupported(config: ConfigFile) -> None:
    if not config.text("model_type"):
        raise config.refusal("model_type", "is missing: this is no transformer")
    if (config.path.parent / "adapter_config.json").exists():
        raise StartupError(f"{config.path.parent} is an adapter (adapter_config.json): merge it into its model first.")
    for field, kind in (("is_encoder_decoder", "encoder-decoders"), ("quantization_config", "quantized weights")):
        if config.values.get(field):
            raise config.refusal(field, f"is set, and {kind} are not supported")


def _hidden(config: ConfigFile) -> int:
    for field in _WIDTHS:
        width = config.integer(field)
        if width is not None:
            if width < 1:
                raise config.refusal(field, f"is {width}, not a width")
            return width
    raise config.refusal("hidden_size", "is missing: this is no transformer with vectors")


def _sentence_config(folder: Path) -> ConfigFile:
    """The first of the files that is there and not empty."""
    found = (ConfigFile.optional(folder / name) for name in SENTENCE_CONFIGS)
    return next((config for config in found if config.values), ConfigFile(folder / SENTENCE_CONFIGS[0], {}))


def _refuse_arguments(sentence: ConfigFile) -> None:
    sentence.refuse_unknown({*_SENTENCE_FIELDS, *_NOT_SUPPORTED, *_ARGUMENTS})
    for field in _NOT_SUPPORTED:
        if sentence.values.get(field):
            raise sentence.refusal(field, f"is {shown(sentence.values[field])}, which is not supported")
    for field in _ARGUMENTS:
        given = sentence.values.get(field) or {}
        if not isinstance(given, dict) or given.keys() - _HARMLESS_ARGUMENTS:
            raise sentence.refusal(field, f"is {shown(given)}, which is not supported")
    task = sentence.values.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise sentence.refusal("transformer_task", f"is {shown(task)}; only feature-extraction is supported")
    if "modality_config" in sentence.values:
        modalities, output = sentence.values["modality_config"], sentence.values.get("module_output_name")
        if modalities not in _TEXT_ONLY or output != "token_embeddings":
            raise sentence.refusal("modality_config", "asks for more than the vectors of a text's tokens")


def _refuse_sides(tokenizer: ConfigFile, model_type: str) -> None:
    if tokenizer.values.get("truncation_side", "right") != "right":
        raise tokenizer.refusal("truncation_side", "is not right: long texts are cut on the right")
    if tokenizer.values.get("padding_side", "right") != "right" and model_type in ABSOLUTE:
        # sentence-transformers then gives a text another vector in every batch.
        raise tokenizer.refusal("padding_side", f"is not right, which a {model_type} model cannot be padded on")


def _max_seq_length(sentence: ConfigFile, tokenizer: ConfigFile, config: ConfigFile) -> int:
    """The sentence config wins over the tokenizer's own limit; neither can exceed the positions."""
    asked = sentence.integer("max_seq_length")
    if asked is None:
        asked = _tokenizer_limit(tokenizer)
    limits = [limit for limit in (asked, _positions(config)) if limit is not None]
    if not limits:
        raise config.refusal("max_position_embeddings", "is missing, and no other file names a longest text")
    if min(limits) < 1:
        raise StartupError(f"{config.path.parent}: the longest text has {min(limits)} tokens, so none can be read.")
    return min(limits)


def _tokenizer_limit(tokenizer: ConfigFile) -> int | None:
    field = "model_max_length" if "model_max_length" in tokenizer.values else "max_len"
    value = tokenizer.values.get(field)
    if isinstance(value, float) and value > UNLIMITED:
        return None
    limit = tokenizer.integer(field)
    return limit if limit is None or limit <= UNLIMITED else None


def _positions(config: ConfigFile) -> int | None:
    """Tokens that the position embedding holds; None if there is no such bound."""
    model_type = config.values["model_type"]
    field = next((name for name in _POSITIONS if name in config.values), _POSITIONS[0])
    rows = config.integer(field, 512 if model_type in ABSOLUTE | NUMBERED_FROM_PADDING else -1)
    if rows is None or rows == -1:
        return None
    if model_type not in NUMBERED_FROM_PADDING:
        return rows
    if "pad_token_id" in config.values and config.integer("pad_token_id") is None:
        raise config.refusal("pad_token_id", f"is null, but a {model_type} model counts positions from it")
    padding = config.integer("pad_token_id", 1)
    assert padding is not None
    return rows - padding - 1
