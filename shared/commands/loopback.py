"""HTTP to the API that this machine runs itself, past any proxy that the environment names."""

import urllib.request
from http.client import HTTPResponse
from typing import cast

from shared.listen import bare_host


def base_url(host: str, port: int) -> str:
    """Where a client on this machine finds an API that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bare_host(host), bare_host(host))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ask(request: str | urllib.request.Request, timeout_s: float) -> HTTPResponse:
    """The answer to a URL or request.

    Raises:
        urllib.error.HTTPError: a status that is no success.
        OSError: no answer.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return cast(HTTPResponse, opener.open(request, timeout=timeout_s))
