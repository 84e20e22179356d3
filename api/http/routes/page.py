"""The page at `/`: a person asks for premises with it, and sees how the server is doing. Its files are in `page/`."""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from api.http.responses import is_known

MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FRONT = "index.html"
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    # The path may hold the key.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> APIRouter:
    """Every file has a route of its own, so that a path of a client's never meets the file system."""
    router = APIRouter()
    for file in files("api").joinpath("page").iterdir():
        media_type = MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type:
            path = "/" if file.name == FRONT else f"/page/{file.name}"
            router.get(path, include_in_schema=False)(_answer(file.read_bytes(), media_type))
    return router


def _answer(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    headers = {**HEADERS, "ETag": f'"{sha256(content).hexdigest()[:32]}"'}

    async def answer(request: Request) -> Response:
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return answer
