"""An optional key that every request must carry, as a bearer header or, for clients that can only set a base URL, as
the first segment of the path."""

from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.paths import as_folder
from api.http.request_record import record_of
from api.http.responses import error_body

OPEN = ("/health", "/health/live", "/health/ready")
"""For whoever watches the process; they tell nothing."""


class KeyRequired:
    """ASGI middleware; takes the key out of the path, so that nothing behind it sees or logs it."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        scheme, _, bearer = Headers(scope=scope).get("authorization", "").partition(" ")
        segment, _, rest = scope["path"].lstrip("/").partition("/")
        if self._is_key(segment):
            if not rest and (folder := as_folder(scope)):
                await folder(scope, receive, send)
                return
            scope["path"], scope["raw_path"] = f"/{rest}", f"/{rest}".encode()
            await self._app(scope, receive, send)
        elif scheme.lower() == "bearer" and self._is_key(bearer.strip()):
            await self._app(scope, receive, send)
        else:
            sentence = "This server wants a key: send it as a bearer token, or put it before the route in the URL."
            record_of(Request(scope)).detail = sentence
            headers = {"WWW-Authenticate": "Bearer"}
            refusal = Response(error_body(sentence), 401, headers, media_type="application/json")
            await refusal(scope, receive, send)

    def _is_key(self, given: str) -> bool:
        return compare_digest(given.encode(errors="surrogateescape"), self._key)
