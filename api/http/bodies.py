"""JSON bodies of requests: their forms, their place in the OpenAPI document, and the sentence for what is refused.

The long lists of a body stay JSON (`retrieval/context.py` says why).
"""

import re
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import FastAPI, Request

from api.retrieval.context import Context, Names, NewPremise, UnreadList
from shared.deadline import Deadline
from shared.errors import BadInput, BodyTooLarge, BodyTooSlow

SCHEMA_REFERENCE = "#/components/schemas/{name}"
"""Where OpenAPI keeps what several routes share."""
Loose = bool | int | float | str
"""Clients send `7`, `7.0`, `"7"` and `true` where a whole number is meant."""


class NewPremiseBody(msgspec.Struct, frozen=True):
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
NewPremisesJson = Annotated[msgspec.Raw, _described(list[NewPremiseBody] | None)]


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
            imported_modules=unread_names("imported_modules", self.imported_modules),
            local_premises=unread_names("local_premises", self.local_premises),
            new_premises=_unread(self.new_premises, partial(read_new_premises, self.new_premises)),
            caller_in_module_system=_flag(self.caller_in_module_system, "caller_in_module_system"),
            imported_all_modules=unread_names("imported_all_modules", self.imported_all_modules),
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


async def read_body(request: Request, most_bytes: int, deadline: Deadline) -> bytes:
    """Receive the whole body.

    Raises:
        BodyTooLarge: as soon as it is known, before the rest is read.
        BodyTooSlow: it did not end by the request's deadline.
    """
    try:
        async with deadline.timeout():
            return await _received(request, most_bytes)
    except TimeoutError:
        raise BodyTooSlow("The body did not arrive in time (REQUEST_TIMEOUT).") from None


def parse_body(body: bytes, kind: type[Body]) -> tuple[Body, Context]:
    """The request in a JSON body; its lists are not looked into.

    Raises:
        BadInput: not JSON, or not of this form; the sentence never repeats the input.
    """
    parsed: Body = _decode(body, kind, "$")
    return parsed, parsed.context()


def parse_declaration_names(body: bytes, most: int) -> list[str]:
    """
    Raises:
        BadInput: not JSON, not of this form, or more than `most` names.
    """
    names: list[str] = _decode(body, DeclarationsBody, "$").names
    if len(names) > most:
        raise BadInput(f"Expected at most {most} names (MAX_K) - at `$.names`.")
    return names


def unread_names(field: str, json: msgspec.Raw) -> UnreadList[Names | None]:
    """A list of names or positions, or null."""
    return _unread(json, partial(read_names, field, json))


def read_names(field: str, json: bytes | msgspec.Raw) -> Names | None:
    """
    Raises:
        BadInput: no list of strings and whole numbers.
    """
    values: list[Any] | None = _decode(json, list[Loose] | None, f"$.{field}")
    # One pass in C: lists of hundreds of thousands of positions are common, odd entries are not.
    if values is None or set(map(type, values)) <= {int, str}:
        return values
    return [v if isinstance(v, str) else _whole(v, f"{field}[{i}]") for i, v in enumerate(values)]


def read_new_premises(json: bytes | msgspec.Raw) -> Sequence[NewPremise]:
    """
    Raises:
        BadInput: no list of `{"name", "decl"}`.
    """
    return _decode(json, list[NewPremiseBody] | None, "$.new_premises") or []


def body_reference(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The body's part of a route's OpenAPI entry."""
    schema = {"$ref": SCHEMA_REFERENCE.format(name=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_bodies(app: FastAPI) -> None:
    """Add the bodies, which msgspec reads and FastAPI does not know, to the OpenAPI document."""
    kinds = [RetrieveBody, BatchBody, DeclarationsBody]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=SCHEMA_REFERENCE)
    app.openapi()["components"] = {"schemas": schemas}


async def _received(request: Request, limit: int) -> bytes:
    too_large = BodyTooLarge(f"The body is larger than {limit} bytes (MAX_BODY_BYTES).")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def _unread(json: msgspec.Raw, read: Any) -> UnreadList[Any]:
    return UnreadList(sha256(json).digest(), len(memoryview(json)), read)


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
