"""One thing that was looked at, and how it is."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec

from shared.errors import PremiseServerError

Level = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """A warning works but not well; with a problem something does not work."""

    level: Level
    subject: str
    sentence: str
    advice: str = ""
    """What to do, one sentence; empty if nothing."""


Check = Callable[[], "list[Finding] | Coroutine[Any, Any, list[Finding]]"]


def found(subject: str, check: Check) -> list[Finding]:
    """What a check finds; a check that fails is itself a finding, never a traceback."""
    try:
        outcome = check()
        return outcome if isinstance(outcome, list) else asyncio.run(outcome)
    except PremiseServerError as error:
        return [Finding("problem", subject, str(error))]
    except Exception as error:  # whatever a library raises, the other checks are still of use
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return [Finding("problem", subject, f"This could not be checked ({reason}).", "Report it with this line.")]


def encode(findings: list[Finding]) -> bytes:
    """As the parts print them for `premise-server doctor`."""
    return msgspec.json.encode(findings)


def decode(printed: bytes) -> list[Finding]:
    """
    Raises:
        msgspec.DecodeError: it is something else.
    """
    return msgspec.json.decode(printed, type=list[Finding])
