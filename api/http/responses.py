"""Answers: compact JSON, short enough for the client that asked, and none that it has."""

import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.retrieval.ranking import Ranked
from api.telemetry.stages import Stages

LEAN_CLIENT_LIMIT = 60 * 1024
"""A Lean client waits for curl to exit before it reads the pipe, which holds 64 KiB: a longer body hangs it."""


def is_lean_client(user_agent: str) -> bool:
    return "LeanProver" in user_agent


def ranked_body(ranked: Ranked, limit: int | None) -> tuple[bytes, int]:
    """The JSON array, and how many of the lowest-ranked entries were left out to stay within `limit` bytes.

    Scores have the fewest digits that read back as the same float32.
    """
    entries = [orjson.dumps({"name": n, "score": s}, option=orjson.OPT_SERIALIZE_NUMPY) for n, s in ranked]
    kept = len(entries)
    if limit is not None:
        # Two brackets, and a comma before every entry but the first.
        sizes = 1 + np.cumsum([len(e) + 1 for e in entries])
        kept = int(np.searchsorted(sizes, limit, side="right"))
    return b"[" + b",".join(entries[:kept]) + b"]", len(entries) - kept


def is_known(request: Request, etag: str) -> bool:
    """Whether the client has what the tag names and wants only to hear of another one (RFC 9110, 13.1.2)."""
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
