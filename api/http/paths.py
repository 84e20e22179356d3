"""Paths as clients build them: from a base URL with or without a slash at its end."""

from urllib.parse import quote

from starlette.responses import RedirectResponse
from starlette.types import Scope


def normal_path(path: str) -> str:
    """`//retrieve` and `/retrieve/` are `/retrieve`."""
    return "/" + "/".join(part for part in path.split("/") if part)


def as_folder(scope: Scope) -> RedirectResponse | None:
    """To the same path with a slash at its end, from which the relative links of the page at `/` lead on.

    None if it has one, or if no browser asks so. Relative, because a proxy may have cut off what came before.
    """
    last = scope["path"].rpartition("/")[2]
    return RedirectResponse(f"./{quote(last)}/") if last and scope["method"] in ("GET", "HEAD") else None
