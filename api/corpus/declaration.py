"""A Lean declaration, and the text that is embedded for it."""

import msgspec


class Declaration(msgspec.Struct, frozen=True, gc=False):  # holds no cycles, and there are hundreds of thousands
    """One line of `Declarations/<Module>.jsonl`, whichever of the two forms it has."""

    name: str
    kind: str
    args: list[str]
    type: str
    """The text after the args and the colon. If the line also has the whole ∀, this is its body."""
    doc: str | None = None
    in_module_system: bool = False
    is_exposed: bool = False

    @property
    def text(self) -> str:
        """The text that is embedded; it must be, to the byte, the text that the stored rows were made from.

        That has the doc without outer white space, by the definition of Python's `str.strip`: also no-break spaces and
        the separators U+001C to U+001F go, but no U+200B and no U+FEFF. A doc that is blank is still a doc and leaves
        its first line, `/--  -/`. With no args two spaces stand before the colon.
        """
        doc = "" if self.doc is None else f"/-- {self.doc.strip()} -/\n"
        return f"{doc}{self.kind} {self.name} {' '.join(self.args)} : {self.type}"


class _Line(msgspec.Struct, rename="camel", gc=False):
    """The fields of a line that are read; the types of all others do not matter."""

    name: str
    kind: str
    args: list[str] | None = None
    type: str | None = None
    type_args: list[str] | None = None
    type_body: str | None = None
    doc: str | None = None
    in_module_system: bool | None = None
    is_exposed: bool | None = None


_LINES = msgspec.json.Decoder(_Line)


def parse_declaration(line: bytes) -> Declaration:
    """The declaration in one line, with `args` and `type` or, as newer extractions say, `typeArgs` and `typeBody`.

    A line with all four means the newer form, whose `type` is the whole ∀.

    Raises:
        msgspec.DecodeError: not JSON, or not an object with these fields.
        UnicodeDecodeError: not UTF-8.
        RecursionError: nested too deep.
    """
    str(line, "utf-8")  # msgspec looks only at the strings of fields that are read
    read = _LINES.decode(line)
    args, type_ = read.type_args, read.type_body
    if args is None or type_ is None:
        args, type_ = read.args, read.type
    if args is None or type_ is None:
        raise msgspec.ValidationError("Object has neither `args` and `type` nor `typeArgs` and `typeBody`")
    return Declaration(
        read.name, read.kind, args, type_, read.doc, bool(read.in_module_system), bool(read.is_exposed)
    )  # fmt: skip
