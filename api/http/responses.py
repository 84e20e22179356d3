"""HTTP responses: compact JSON, one readable sentence for errors, and 304 if the client's ETag still matches."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.corpus.names_file import NamesFile
from api.telemetry.stages import Stages


def is_known(request: Request, etag: str) -> bool:
    """True if the client's If-None-Match names this tag (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return etag in tags or "*" in tags


def error_body(message: str) -> bytes:
    """`{"detail": sentence}`, under 2 KB whatever the message."""
    return orjson.dumps({"detail": message[:500]})


def json_response(
    content: bytes, counts: dict[str, int] | None = None, stages: Stages | None = None, *, status: int = 200
) -> Response:
    """An answer; of `counts`, those that are not zero become headers, and `stages` the one that says them."""
    headers = {name: str(count) for name, count in (counts or {}).items() if count}
    if stages is not None:
        headers["Server-Timing"] = stages.server_timing()
    return Response(content, status, headers, media_type="application/json")


def names_response(request: Request, names: NamesFile) -> Response:
    """304 to a client that has the list already, gzip to one that asks for gzip."""
    headers = {"ETag": names.etag, "Vary": "Accept-Encoding", "Cache-Control": "no-cache"}
    if is_known(request, names.etag):
        return Response(status_code=304, headers=headers)
    if _accepts_gzip(request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
        return Response(names.gzipped, headers=headers, media_type="application/json")
    return Response(names.plain, headers=headers, media_type="application/json")


def _accepts_gzip(header: str) -> bool:
    """True if `Accept-Encoding` names gzip with a weight above 0 (RFC 9110, 12.5.3)."""
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
