"""A Lean declaration as the data repository holds it, and the text that is embedded for it."""

import msgspec


class Declaration(msgspec.Struct, frozen=True, rename="camel"):
    """One line of `Declarations/<Module>.jsonl`."""

    name: str
    kind: str
    args: list[str]
    type: str
    doc: str | None
    line: int | None
    column: int | None
    is_prop: bool
    is_human_theorem: bool
    in_module_system: bool = False
    is_exposed: bool = False

    @property
    def text(self) -> str:
        """What is embedded. With no args two spaces stand before the colon: the stored rows have them too."""
        doc = "" if self.doc is None else f"/-- {self.doc} -/\n"
        return f"{doc}{self.kind} {self.name} {' '.join(self.args)} : {self.type}"
