"""The texts in a file that is to be warmed: declarations or states, a line each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from api.corpus.declaration import parse_declaration
from shared.errors import PremiseServerError


def read_texts(file: BinaryIO, name: str, *, states: bool) -> Iterator[str]:
    """One text a line, blank lines left out.

    A line is JSON (a string, `{"state"}`, `{"name", "decl"}`, or a line of a data repository's `Declarations/`)
    or, in a file not called `.jsonl`, the text itself.

    Raises:
        PremiseServerError: a line is neither; the sentence names it.
    """
    only_json = Path(name).suffix == ".jsonl"
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield _text(line, only_json=only_json, field="state" if states else "decl")
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise PremiseServerError(f"{name} line {number}: {error}.") from None


def _text(line: bytes, *, only_json: bool, field: str) -> str:
    try:
        row: Any = msgspec.json.decode(line)
    except msgspec.DecodeError:
        if only_json:
            raise
        row = None
    match row:
        case str():
            return row
        case dict() if isinstance(row.get(field), str):
            return str(row[field])
        case dict() if field == "decl":
            return parse_declaration(line).text
        case dict():
            raise ValueError(f"an object without {field!r}")
    if only_json:
        raise ValueError("neither a string nor an object")
    return line.decode().rstrip("\r\n")
