"""safetensors files, as far as their headers tell: there, whole, and of the right shapes.

Format: 8 bytes of header length, the header as JSON, then the numbers (huggingface/safetensors, README).
"""

import json
from collections.abc import Mapping
from pathlib import Path

from shared.errors import StartupError
from shared.model.config_file import ConfigFile, shown
from shared.model.files import PICKLED_WEIGHTS, WEIGHTS, WEIGHTS_INDEX

Shape = tuple[int, ...]
LONGEST_HEADER = 100_000_000
"""safetensors reads no longer one."""


def check_weights(folder: Path) -> None:
    """
    Raises:
        StartupError: the transformer's weights are missing, cut, in parts that do not fit, or pickled only.
    """
    if (folder / WEIGHTS).exists():
        read_shapes(folder / WEIGHTS)
        return
    index = ConfigFile.optional(folder / WEIGHTS_INDEX)
    if not index.path.exists():
        pickled = next((name for name in PICKLED_WEIGHTS if (folder / name).exists()), None)
        reason = f"has its weights in {pickled}, which is not loaded because" if pickled else f"has no {WEIGHTS}:"
        raise StartupError(f"{folder} {reason} only the safetensors format is safe to load.")
    parts = index.values.get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise index.refusal("weight_map", "is missing or odd")
    shapes = {name: _part(index, name) for name in set(map(str, parts.values()))}
    for tensor, name in parts.items():
        if tensor not in shapes[str(name)]:
            raise StartupError(f"{folder / str(name)} lacks {shown(tensor)}, which {WEIGHTS_INDEX} places there.")


def _part(index: ConfigFile, name: str) -> dict[str, Shape]:
    path = index.path.parent / name
    # Other names are not among the files that are fetched.
    if not (name.startswith("model-") and name.endswith(".safetensors")) or "/" in name:
        raise index.refusal("weight_map", f"names {shown(name)}, not a part such as model-00001-of-00002.safetensors")
    return read_shapes(path)


def check_shapes(path: Path, expected: Mapping[str, Shape]) -> None:
    """
    Raises:
        StartupError: the file does not hold just the tensors of `expected`.
    """
    held = read_shapes(path)
    for name in sorted({*held, *expected}):
        if held.get(name) != expected.get(name):
            raise StartupError(
                f"{path}: {shown(name)} has shape {_sides(held.get(name))}, expected was {_sides(expected.get(name))}."
            )


def _sides(shape: Shape | None) -> str:
    return "none" if shape is None else f"[{', '.join(map(str, shape))}]"


def read_shapes(path: Path) -> dict[str, Shape]:
    """The shape of each tensor in the file.

    Raises:
        StartupError: the file is missing, no safetensors file, or shorter or longer than its header says.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if length <= LONGEST_HEADER else b""
        size = path.stat().st_size
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        shapes = {name: tuple(map(int, tensor["shape"])) for name, tensor in tensors.items()}
        end = max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise StartupError(f"{path} is no safetensors file, or is cut: its header cannot be read.") from None
    if 8 + length + end != size:
        raise StartupError(f"{path} has {size:,} bytes, but its header tells of {8 + length + end:,}: fetch it again.")
    return shapes
