"""Bodies of requests: what is accepted, what it means, and the sentence for what is not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from shared.errors import BadInput

Loose = bool | int | float | str
"""Clients send `7`, `7.0`, `"7"` and `true` where a whole number is meant."""
LooseNames = list[str | bool | int | float] | None
Names = Sequence[str | int]
"""Names, or positions in `/indexed-modules` or `/indexed-premises`."""


class NewPremise(msgspec.Struct, frozen=True):
    """A declaration of the user's own."""

    name: str
    decl: str


@dataclass(frozen=True)
class Context:
    """What is ranked, and how much of it: all of a request but its state."""

    k: int
    imported_modules: Names | None
    local_premises: Names | None
    new_premises: Sequence[NewPremise]
    caller_in_module_system: bool
    imported_all_modules: Names | None


class _Body(msgspec.Struct, kw_only=True):
    k: Loose
    imported_modules: LooseNames = None
    local_premises: LooseNames = None
    new_premises: list[NewPremise] | None = None
    caller_in_module_system: Loose = False
    imported_all_modules: LooseNames = None

    def context(self) -> Context:
        """
        Raises:
            BadInput: a number is not whole, or a flag is none.
        """
        return Context(
            k=_whole(self.k, "k"),
            imported_modules=_names(self.imported_modules, "imported_modules"),
            local_premises=_names(self.local_premises, "local_premises"),
            new_premises=self.new_premises or (),
            caller_in_module_system=_flag(self.caller_in_module_system, "caller_in_module_system"),
            imported_all_modules=_names(self.imported_all_modules, "imported_all_modules"),
        )


class RetrieveBody(_Body, kw_only=True):
    """Body of `POST /retrieve`."""

    state: str


class BatchBody(_Body, kw_only=True):
    """Body of `POST /retrieve/batch`: many states, one shared context."""

    states: list[str]


Body = TypeVar("Body", RetrieveBody, BatchBody)


def parse_body(body: bytes, kind: type[Body]) -> Body:
    """The request in a JSON body.

    Raises:
        BadInput: not JSON, or not of this form; the sentence never repeats the input.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"{_short(error)}.") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BadInput(f"The body is not valid JSON: {_short(error)}.") from None
    except RecursionError:
        raise BadInput("The body is nested too deeply.") from None


def _whole(value: Loose, name: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,20}(\.0*)?\s*", value, re.ASCII):
        return int(value.partition(".")[0])
    if isinstance(value, str) or (isinstance(value, float) and not value.is_integer()):
        raise BadInput(f"Expected a whole number - at `$.{name}`.")
    return int(value)


def _names(values: LooseNames, name: str) -> Names | None:
    if values is None:
        return None
    # One pass in C: lists of hundreds of thousands of positions are common, odd entries are not.
    if set(map(type, values)) <= {int, str}:
        return values  # type: ignore[return-value]  # the line above has looked
    return [v if isinstance(v, str) else _whole(v, f"{name}[{i}]") for i, v in enumerate(values)]


def _flag(value: Loose, name: str) -> bool:
    word = str(value).strip().lower()
    if word in ("true", "1", "1.0", "yes", "on", "t", "y"):
        return True
    if word in ("false", "0", "0.0", "no", "off", "f", "n"):
        return False
    raise BadInput(f"Expected true or false - at `$.{name}`.")


def _short(error: Exception) -> str:
    return str(error)[:300].rstrip(".")
