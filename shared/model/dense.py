"""A Dense module's configuration: a linear layer after pooling."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from shared.model.config_file import ConfigFile, shown
from shared.model.files import WEIGHTS

Activation = Literal["Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid"]

_FIELDS = {
    "in_features",
    "out_features",
    "bias",
    "activation_function",
    "module_input_name",
    "module_output_name",
    "use_residual",
}
_PLACES = ("torch.nn.", "torch.nn.modules.activation.", "torch.nn.modules.linear.")


@dataclass(frozen=True)
class DenseLayer:
    """activation(W x + b)."""

    weights: Path
    inputs: int
    outputs: int
    bias: bool
    activation: Activation

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that its file must hold."""
        bias = {"linear.bias": (self.outputs,)} if self.bias else {}
        return {"linear.weight": (self.outputs, self.inputs), **bias}


def read_dense(config: ConfigFile, inputs: int) -> DenseLayer:
    """`inputs` is the width of the vectors that reach it. Source: sentence-transformers 6.2, `Dense`.

    Raises:
        StartupError: a field is unknown or odd, or the widths do not meet.
    """
    config.refuse_unknown(_FIELDS)
    taken, outputs = config.integer("in_features"), config.integer("out_features")
    if taken != inputs:
        raise config.refusal("in_features", f"is {shown(taken)}, but the vectors before it have {inputs} numbers")
    if outputs is None or outputs < 1:
        raise config.refusal("out_features", f"is {shown(outputs)}, not a width")
    for field in ("module_input_name", "module_output_name"):
        if config.values.get(field) not in (None, "sentence_embedding"):
            raise config.refusal(field, f"is {shown(config.values[field])}; only sentence_embedding is supported")
    if config.values.get("use_residual"):
        raise config.refusal("use_residual", "is not supported")
    return DenseLayer(
        weights=config.path.parent / WEIGHTS,
        inputs=inputs,
        outputs=outputs,
        bias=bool(config.values.get("bias", True)),
        activation=_activation(config),
    )


def _activation(config: ConfigFile) -> Activation:
    """Tanh without the field, which is what sentence-transformers takes then."""
    named = config.values.get("activation_function", "torch.nn.Tanh")
    for activation in get_args(Activation):
        if named in {f"{place}{activation}" for place in _PLACES}:
            return cast(Activation, activation)
    names = ", ".join(get_args(Activation))
    raise config.refusal("activation_function", f"is {shown(named)}; supported are {names} of torch.nn")
