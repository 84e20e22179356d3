"""config_sentence_transformers.json: what `SentenceTransformer.encode` does unless it is told otherwise."""

from dataclasses import dataclass

from shared.model.config_file import ConfigFile, shown

_NO_PROMPTS = {"query": "", "document": ""}
"""Names that every model has (sentence-transformers 6.2, `SentenceTransformer._default_prompts`)."""


@dataclass(frozen=True)
class EncodeDefaults:
    prompt: str = ""
    """Stands before every text."""
    truncate_dim: int | None = None
    """Only so many of the first numbers of a vector are kept."""


def read_defaults(config: ConfigFile, *, normalized: bool) -> EncodeDefaults:
    """`normalized` says whether the last module is Normalize.

    Raises:
        StartupError: a field is odd, or asks for what is not supported.
    """
    kind = config.text("model_type") or "SentenceTransformer"
    if kind != "SentenceTransformer":
        raise config.refusal("model_type", f"is {shown(kind)}; only SentenceTransformer is supported")
    if config.values.get("requirements"):
        raise config.refusal("requirements", "is not supported: remove it if the installed packages meet it")
    width = config.integer("truncate_dim")
    if width is not None and width < 1:
        raise config.refusal("truncate_dim", f"is {width}, not a width")
    similarity = config.values.get("similarity_fn_name")
    # Scores are cosines. The inner product of vectors of length 1 is one too.
    if similarity not in (None, "cosine") and not (similarity == "dot" and normalized and width is None):
        raise config.refusal("similarity_fn_name", f"is {shown(similarity)}, but scores are cosines here")
    return EncodeDefaults(_prompt(config), width)


def _prompt(config: ConfigFile) -> str:
    prompts = config.values.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise config.refusal("prompts", f"is {shown(prompts)}, not an object")
    name = config.text("default_prompt_name")
    if name is None:
        return ""
    prompts = _NO_PROMPTS | prompts
    if name not in prompts:
        raise config.refusal("default_prompt_name", f"is {shown(name)}, which is not among the prompts")
    prompt = prompts[name]
    if prompt is not None and not isinstance(prompt, str):
        raise config.refusal("prompts", f"has {shown(prompt)} for {shown(name)}, not a string")
    return prompt or ""
