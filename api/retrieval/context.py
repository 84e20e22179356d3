"""A request as retrieval sees it: what is asked for, with its long lists still unread.

Editors send the same imports and the same new declarations with every goal. What was made of a list is remembered by
the digest of its bytes, so a list that is known need not be read again: reading would be most of a warm request.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

INLINE_BYTES = 262_144
"""The event loop reads lists up to this size itself, in less than a millisecond. A thread reads longer ones: with many
requests at once, changing threads for a short list takes longer than reading it."""
Names = Sequence[str | int]
"""Names, or positions in `/indexed-modules` or `/indexed-premises`."""


class NewPremise(Protocol):
    """A declaration of the user's own."""

    @property
    def name(self) -> str: ...

    @property
    def decl(self) -> str:
        """Its text as Lean prints it; this is embedded."""
        ...


@dataclass(frozen=True)
class UnreadList(Generic[T]):
    """A list of a request, as bytes until somebody needs it."""

    digest: bytes
    """SHA-256 of its bytes: what was made of the list is remembered by it."""
    size: int
    """Bytes."""
    read: Callable[[], T]
    """Reads the list.

    Raises:
        BadInput: its form is wrong.
    """


@dataclass(frozen=True)
class Context:
    """All of a request but its state: what is ranked, and how much of it is wanted."""

    k: int
    imported_modules: UnreadList[Names | None]
    local_premises: UnreadList[Names | None]
    new_premises: UnreadList[Sequence[NewPremise]]
    caller_in_module_system: bool
    imported_all_modules: UnreadList[Names | None]
