"""A JSON file of a model directory, read field by field; whatever does not fit is one sentence."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import StartupError
from shared.model.files import POINTER, pointer_error


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        FileNotFoundError: there is no such file.
        StartupError: it cannot be read, or is not JSON.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}.") from None
    if content.startswith(POINTER):
        raise pointer_error(path)
    try:
        return json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise StartupError(f"{path} is not JSON: {error}.") from None


@dataclass(frozen=True)
class ConfigFile:
    """The JSON object in one file."""

    path: Path
    values: dict[str, Any]

    @classmethod
    def required(cls, path: Path) -> "ConfigFile":
        """
        Raises:
            StartupError: the file is missing, or holds no JSON object.
        """
        try:
            values = read_json(path)
        except FileNotFoundError:
            raise StartupError(f"{path} is missing: {path.parent} is no sentence-transformers model.") from None
        if not isinstance(values, dict):
            raise StartupError(f"{path} holds a JSON {type(values).__name__}, not an object.")
        return cls(path, values)

    @classmethod
    def optional(cls, path: Path) -> "ConfigFile":
        """An empty object if there is no such file.

        Raises:
            StartupError: the file holds no JSON object.
        """
        return cls.required(path) if path.exists() else cls(path, {})

    def refusal(self, field: str, reason: str) -> StartupError:
        """The error about one field, `reason` being the rest of its sentence."""
        return StartupError(f"{self.path}: {field} {reason}.")

    def integer(self, field: str, default: int | None = None) -> int | None:
        """A whole number; `default` if the field is missing or null.

        Raises:
            StartupError: it is something else.
        """
        value = self.values.get(field)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refusal(field, f"is {shown(value)}, not a whole number")
        return value

    def text(self, field: str) -> str | None:
        """A string; None if the field is missing or null.

        Raises:
            StartupError: it is something else.
        """
        value = self.values.get(field)
        if value is not None and not isinstance(value, str):
            raise self.refusal(field, f"is {shown(value)}, not a string")
        return value

    def refuse_unknown(self, known: set[str]) -> None:
        """
        Raises:
            StartupError: there are fields that are not `known`; it names the first.
        """
        for field in sorted(self.values.keys() - known):
            raise self.refusal(field, "is a field that is not supported")


def shown(value: object) -> str:
    """A JSON value in a sentence, cut to a readable length."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
