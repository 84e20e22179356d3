"""Findings for people, as a table or as lines, and for machines."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shared.finding import Finding, Level


def worst(findings: Sequence[Finding]) -> Level:
    levels: tuple[Level, ...] = ("problem", "warning", "ok")
    present = {finding.level for finding in findings}
    return next((level for level in levels if level in present), "ok")


def as_json(findings: Sequence[Finding]) -> str:
    return msgspec.json.encode({"status": worst(findings), "findings": findings}).decode()


def show(findings: Sequence[Finding], console: Console) -> None:
    """A table on a terminal, else a line each."""
    if not console.is_terminal:
        for f in findings:
            line = f"{f.level:<8} {f.subject}: {f.sentence} {f.advice}".rstrip()
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    colours = {"ok": "green", "warning": "yellow", "problem": "red"}
    table = Table("", "subject", "found", "what to do", show_lines=True)
    for f in findings:
        level = f"[{colours[f.level]}]{f.level}[/]"
        table.add_row(level, escape(f.subject), escape(f.sentence), escape(f.advice))
    console.print(table)
    counts = [f"{sum(f.level == level for f in findings)} {name}" for level, name in LEVEL_NAMES]
    console.print(", ".join(counts) + ".", highlight=False)


LEVEL_NAMES: tuple[tuple[Level, str], ...] = (("ok", "ok"), ("warning", "to look at"), ("problem", "to mend"))
