"""The JSON array of ranked premises, cut at 60 KiB for Lean clients."""

import numpy as np
import orjson

from api.retrieval.ranking import Ranked

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
