"""Errors that a user or an operator reads: one sentence each, with the HTTP status on the class."""

from typing import ClassVar, Literal

LONGEST_RETRY_S = 60
"""The most a client is told to wait, also while nothing gets done at all: workers are added or restarted meanwhile."""
Full = Literal["queue", "long_lists", "searches", "rate_limit"]
"""What was full when a request was refused."""


class PremiseServerError(Exception):
    """Base of every error that is shown as its message alone, never as a traceback."""

    status: ClassVar[int] = 500
    retry_after: int | None = None
    """Seconds after which a client should try again; sent as ``Retry-After``."""


class StartupError(PremiseServerError):
    """Something outside the program must be mended before it can start."""


class RedisAway(StartupError):
    """A Redis that a role or a command cannot do without does not answer, or not this user."""


class BadInput(PremiseServerError):
    status = 422


class BodyTooLarge(PremiseServerError):
    status = 413


class BodyTooSlow(PremiseServerError):
    status = 408


class Overloaded(PremiseServerError):
    """More cold work than the workers can do now."""

    status = 429

    def __init__(self, message: str, retry_after: int, reason: Full) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.reason = reason


class Unavailable(PremiseServerError):
    """Redis or every worker is away, or the process is still starting."""

    status = 503

    def __init__(self, message: str, retry_after: int = 2) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlinePassed(PremiseServerError):
    status = 504
    retry_after = 1


class ModelBroken(PremiseServerError):
    """The model fails on what it could embed before: not the text is at fault but the device."""


class TextFailed(PremiseServerError):
    """The model could not embed one text (a zero or non-finite vector, say)."""

    status = 422

    def __init__(self, message: str, position: int = 0) -> None:
        """`position` is that of the text in the list that was to be embedded; of equal texts, the first one's."""
        super().__init__(message)
        self.position = position
