"""A list of names as an answer that never changes: serialised and compressed once, with a tag to ask by."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from api.http.responses import is_known


@dataclass(frozen=True)
class NamesBody:
    """JSON array of names, plain and gzipped."""

    plain: bytes
    gzipped: bytes
    etag: str

    @classmethod
    def load(cls, path: Path) -> "NamesBody":
        """From a file and its `.gz` beside it."""
        plain = path.read_bytes()
        return cls(plain, path.with_name(f"{path.name}.gz").read_bytes(), f'"{sha256(plain).hexdigest()[:32]}"')

    def response(self, request: Request) -> Response:
        """304 to a client that has it, gzip to one that asks for gzip."""
        headers = {"ETag": self.etag, "Vary": "Accept-Encoding", "Cache-Control": "no-cache"}
        if is_known(request, self.etag):
            return Response(status_code=304, headers=headers)
        if _accepts_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            return Response(self.gzipped, headers=headers, media_type="application/json")
        return Response(self.plain, headers=headers, media_type="application/json")


def _accepts_gzip(header: str) -> bool:
    """Whether `Accept-Encoding` names gzip and not with weight 0 (RFC 9110, 12.5.3)."""
    for part in header.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
