"""A text in cache keys and in the queue."""

from hashlib import sha256

READ_CHARS = 262_144
"""Of a text, what is read at most: many times any model's limit, unless the text is one endless word."""


def text_digest(text: str) -> str:
    """SHA-256 of the UTF-8 text, 64 hex digits: what `printf %s TEXT | sha256sum` prints."""
    return sha256(text.encode()).hexdigest()


def read_part(text: str) -> str:
    """What a model may read of a text: no space around it, and no more than `READ_CHARS`."""
    return text.strip()[:READ_CHARS]
