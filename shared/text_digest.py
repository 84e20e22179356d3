"""The name of a text in cache keys."""

from hashlib import sha256


def text_digest(text: str) -> str:
    """SHA-256 of the UTF-8 text, 64 hex digits: what `printf %s TEXT | sha256sum` prints."""
    return sha256(text.encode()).hexdigest()
