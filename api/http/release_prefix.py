"""The release that a path means: its URL prefix is cut off, and the request holds the release until it is answered."""

from collections.abc import Iterable

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.paths import as_folder, normal_path
from api.serving.catalog import Catalog, Served
from shared.errors import Unavailable


class ReleasePrefix:
    """ASGI middleware. Nothing that Lean clients ask for is redirected: they do not follow."""

    def __init__(self, app: ASGIApp, catalog: Catalog) -> None:
        self._app = app
        self._catalog = catalog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        served, path = self._catalog.resolve(normal_path(scope["path"]))
        if path == "/" and (folder := as_folder(scope)):
            await folder(scope, receive, send)
            return
        scope["path"] = path
        scope.setdefault("state", {})["served"] = served
        if served is None:
            await self._app(scope, receive, send)
            return
        with self._catalog.hold(served):
            await self._app(scope, receive, send)


def served_of(request: HTTPConnection) -> Served:
    """The release that the request asks, loaded or not.

    Raises:
        Unavailable: no release is there yet.
    """
    served: Served | None = request.state.served
    if served is None:
        raise Unavailable("No release is served here yet. Try again soon.")
    return served


def no_such_route(path: str, routes: Iterable[str], known: Iterable[str]) -> str:
    """The sentence for a path that no route answers. It names the releases, and never repeats the path.

    `routes` are the paths of all routes, `known` the names of the releases.
    """
    served = f"the releases served are {', '.join(known) or 'none yet'}"
    if any(path.endswith(route) for route in routes if route != "/"):
        return f"The release before the route is not served here; {served}."
    return f"There is no such route here; {served}."
