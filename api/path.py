"""Paths as clients build them: a base URL with or without a slash, with or without a data revision."""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send


def normal_path(path: str, revisions: set[str]) -> str:
    """`//retrieve`, `/retrieve/` and `/{served revision}/retrieve` are `/retrieve`."""
    parts = [part for part in path.split("/") if part]
    if parts and parts[0] in revisions:
        parts = parts[1:]
    return "/" + "/".join(parts)


class NormalPath:
    """ASGI middleware; a redirect would do as little as possible for clients that do not follow one."""

    def __init__(self, app: ASGIApp, revisions: Callable[[], set[str]]) -> None:
        self._app = app
        self._revisions = revisions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = normal_path(scope["path"], self._revisions())
        await self._app(scope, receive, send)
