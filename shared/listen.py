"""Listening sockets, and the sentence that says why an address cannot be listened on."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import StartupError

BACKLOG = 2048
"""Connections that wait to be accepted; more than a burst of clients opens at once."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket on `host`, which is a name or an IPv4 or IPv6 address.

    Raises:
        StartupError: host and port cannot be listened on.
    """
    with bind_errors(host, port, "HOST, PORT"):
        found = socket.getaddrinfo(bare_host(host), port, type=socket.SOCK_STREAM)
        # `localhost` may have both kinds of address; clients of a local server expect the IPv4 one.
        family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    return listener


def require_free(host: str, port: int) -> None:
    """Check that nobody listens on host and port.

    Raises:
        StartupError: host and port cannot be listened on.
    """
    listen(host, port).close()


def bare_host(host: str) -> str:
    """Remove the brackets of an IPv6 address, as in `[::]`."""
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


@contextmanager
def bind_errors(host: str, port: int, variables: str) -> Iterator[None]:
    """Turn an error of the block into the sentence that names the address and the `variables` that set it.

    Raises:
        StartupError: the block could not resolve the host, or not bind to it.
    """
    try:
        yield
    except (OSError, UnicodeError) as error:  # UnicodeError: the host is no domain name
        host = bare_host(host)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        reason = getattr(error, "strerror", None) or error
        raise StartupError(f"Cannot listen on {address} ({variables}): {reason}.") from None
