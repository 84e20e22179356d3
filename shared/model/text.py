"""A text in cache keys and in the queue."""

from hashlib import sha256

from shared.errors import BadInput

READ_CHARS = 1_048_576
"""Most characters of a text that are read. They fill any model's limit, unless it is one endless word or space."""


def text_digest(text: str) -> str:
    """SHA-256 of the UTF-8 text, 64 hex digits: what `printf %s TEXT | sha256sum` prints.

    Raises:
        BadInput: the text has a lone surrogate, half of a character, which UTF-8 cannot say.
    """
    try:
        return sha256(text.encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"A text has a lone surrogate at character {error.start + 1}, which is no Unicode text."
        ) from None


def read_part(text: str) -> str:
    """The part of a text that a model may read: no space around it, and no more than `READ_CHARS`.

    A text as long as `READ_CHARS` may have been cut: a worker refuses it unless this part fills the model's limit.
    """
    return text.strip()[:READ_CHARS]
