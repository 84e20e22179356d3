"""Bodies of requests: what is accepted, what it means, and the sentence for what is not.

The long lists stay JSON until somebody needs them: editors send the same imports and the same new declarations with
every goal, so what was made of them is remembered by their bytes, and reading them again would be most of a request.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, TypeVar

import msgspec

from shared.errors import BadInput

INLINE_BYTES = 262_144
"""JSON that the event loop may read itself, in less than a millisecond. More belongs in a thread; with less, the change
of threads takes longer than the work where many requests come at once."""
Loose = bool | int | float | str
"""Clients send `7`, `7.0`, `"7"` and `true` where a whole number is meant."""
Names = Sequence[str | int]
"""Names, or positions in `/indexed-modules` or `/indexed-premises`."""


class NewPremise(msgspec.Struct, frozen=True):
    """A declaration of the user's own."""

    name: str
    decl: str


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


def _described(kind: Any) -> Any:
    """JSON that is read later as `kind`; the OpenAPI document describes it as that already."""
    schema: dict[str, Any] = msgspec.json.schema(kind)
    definitions = schema.pop("$defs", {})
    for option in schema["anyOf"]:
        if "$ref" in option.get("items", {}):
            option["items"] = definitions[option["items"]["$ref"].rpartition("/")[2]]
    return msgspec.Meta(extra_json_schema=schema)


NamesJson = Annotated[msgspec.Raw, _described(list[Loose] | None)]
NewPremisesJson = Annotated[msgspec.Raw, _described(list[NewPremise] | None)]


@dataclass(frozen=True)
class UnreadList:
    """A list of a request, as JSON."""

    field: str
    json: msgspec.Raw
    digest: bytes
    """SHA-256 of the JSON: what was made of the list is remembered by it."""

    @classmethod
    def of(cls, field: str, json: msgspec.Raw) -> "UnreadList":
        return cls(field, json, sha256(json).digest())


@dataclass(frozen=True)
class Context:
    """What is ranked, and how much of it: all of a request but its state."""

    k: int
    imported_modules: UnreadList
    local_premises: UnreadList
    new_premises: UnreadList
    caller_in_module_system: bool
    imported_all_modules: UnreadList


class _Body(msgspec.Struct, kw_only=True):
    k: Loose
    imported_modules: NamesJson = msgspec.field(default_factory=_null)
    local_premises: NamesJson = msgspec.field(default_factory=_null)
    new_premises: NewPremisesJson = msgspec.field(default_factory=_null)
    caller_in_module_system: Loose = False
    imported_all_modules: NamesJson = msgspec.field(default_factory=_null)

    def context(self) -> Context:
        """
        Raises:
            BadInput: `k` is no whole number, or the flag is none.
        """
        return Context(
            k=_whole(self.k, "k"),
            imported_modules=UnreadList.of("imported_modules", self.imported_modules),
            local_premises=UnreadList.of("local_premises", self.local_premises),
            new_premises=UnreadList.of("new_premises", self.new_premises),
            caller_in_module_system=_flag(self.caller_in_module_system, "caller_in_module_system"),
            imported_all_modules=UnreadList.of("imported_all_modules", self.imported_all_modules),
        )


class RetrieveBody(_Body, kw_only=True):
    """Body of `POST /retrieve`."""

    state: str


class BatchBody(_Body, kw_only=True):
    """Body of `POST /retrieve/batch`: many states, one shared context."""

    states: list[str]


class DeclarationsBody(msgspec.Struct):
    """Body of `POST /declarations`."""

    names: list[str]


Body = TypeVar("Body", RetrieveBody, BatchBody)


def parse_body(body: bytes, kind: type[Body]) -> tuple[Body, Context]:
    """The request in a JSON body; its lists are not looked into.

    Raises:
        BadInput: not JSON, or not of this form; the sentence never repeats the input.
    """
    parsed: Body = _decode(body, kind, "$")
    return parsed, parsed.context()


def read_names(names: UnreadList) -> Names | None:
    """
    Raises:
        BadInput: no list of strings and whole numbers.
    """
    values: list[Any] | None = _decode(names.json, list[Loose] | None, f"$.{names.field}")
    # One pass in C: lists of hundreds of thousands of positions are common, odd entries are not.
    if values is None or set(map(type, values)) <= {int, str}:
        return values
    return [v if isinstance(v, str) else _whole(v, f"{names.field}[{i}]") for i, v in enumerate(values)]


def read_new_premises(premises: UnreadList) -> list[NewPremise]:
    """
    Raises:
        BadInput: no list of `{"name", "decl"}`.
    """
    return _decode(premises.json, list[NewPremise] | None, f"$.{premises.field}") or []


def parse_declaration_names(body: bytes, most: int) -> list[str]:
    """
    Raises:
        BadInput: not JSON, not of this form, or more than `most` names.
    """
    names: list[str] = _decode(body, DeclarationsBody, "$").names
    if len(names) > most:
        raise BadInput(f"Expected at most {most} names (MAX_K) - at `$.names`.")
    return names


def _decode(json: bytes | msgspec.Raw, kind: Any, place: str) -> Any:
    try:
        return msgspec.json.decode(json, type=kind)
    except msgspec.ValidationError as error:
        sentence, at, path = _short(error).partition(" - at `$")
        raise BadInput(f"{sentence} - at `{place}{path if at else '`'}.") from None
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


def _flag(value: Loose, name: str) -> bool:
    word = str(value).strip().lower()
    if word in ("true", "1", "1.0", "yes", "on", "t", "y"):
        return True
    if word in ("false", "0", "0.0", "no", "off", "f", "n"):
        return False
    raise BadInput(f"Expected true or false - at `$.{name}`.")


def _short(error: Exception) -> str:
    return str(error)[:300].rstrip(".")
