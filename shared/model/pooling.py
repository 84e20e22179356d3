"""The Pooling module's configuration: how the vectors of a text's tokens become one."""

from typing import Literal, cast, get_args

from shared.model.config_file import ConfigFile, shown

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

_FLAGS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Older files have a flag for each mode; this is the order in which several are concatenated."""
_WIDTHS = ("embedding_dimension", "word_embedding_dimension")


def read_pooling(config: ConfigFile, hidden: int) -> tuple[PoolingMode, ...]:
    """The modes whose results are concatenated; `hidden` is the width of a token's vector.

    Source: sentence-transformers 6.2, `Pooling`.

    Raises:
        StartupError: a field is unknown or odd, or its width is another.
    """
    config.refuse_unknown({*_FLAGS, *_WIDTHS, "pooling_mode", "include_prompt"})
    widths = [(field, config.integer(field)) for field in _WIDTHS if field in config.values]
    if not widths:
        raise config.refusal(_WIDTHS[0], "is missing")
    for field, width in widths:
        if width != hidden:
            raise config.refusal(field, f"is {shown(width)}, but the transformer's vectors have {hidden} numbers")
    if "pooling_mode" not in config.values:
        return tuple(mode for flag, mode in _FLAGS.items() if config.values.get(flag)) or ("mean",)
    named = config.values["pooling_mode"]
    modes = [named] if isinstance(named, str) else named
    if not isinstance(modes, list) or not modes or not all(mode in get_args(PoolingMode) for mode in modes):
        raise config.refusal("pooling_mode", f"is {shown(named)}; supported are {', '.join(get_args(PoolingMode))}")
    return cast(tuple[PoolingMode, ...], tuple(modes))


def includes_prompt(config: ConfigFile) -> bool:
    """Whether the tokens of a prompt are pooled like the text's own."""
    return bool(config.values.get("include_prompt", True))
