"""Paths as clients build them: a base URL with or without a slash, with or without a data revision."""

from collections.abc import Callable
from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def normal_path(path: str, revisions: set[str]) -> str:
    """`//retrieve`, `/retrieve/` and `/{served revision}/retrieve` are `/retrieve`."""
    parts = [part for part in path.split("/") if part]
    if parts and parts[0] in revisions:
        parts = parts[1:]
    return "/" + "/".join(parts)


def as_folder(scope: Scope) -> RedirectResponse | None:
    """To the same path with a slash at its end, from which the relative links of the page at `/` lead on.

    None if it has one, or if no browser asks so. Relative, because a proxy may have cut off what came before.
    """
    last = scope["path"].rpartition("/")[2]
    return RedirectResponse(f"./{quote(last)}/") if last and scope["method"] in ("GET", "HEAD") else None


class NormalPath:
    """ASGI middleware. Nothing that Lean clients ask for is redirected: they do not follow."""

    def __init__(self, app: ASGIApp, revisions: Callable[[], set[str]]) -> None:
        self._app = app
        self._revisions = revisions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = normal_path(scope["path"], self._revisions())
            if path == "/" and (folder := as_folder(scope)):
                await folder(scope, receive, send)
                return
            scope["path"] = path
        await self._app(scope, receive, send)
