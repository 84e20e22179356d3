"""The releases of one API process by URL prefix. They are added and dropped while the process serves."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from api.embedding.backend import Backend
from api.serving.release import Failed, Loading, Release, ReleaseSpec
from shared.errors import PremiseServerError, Unavailable

Load = Callable[[ReleaseSpec], AsyncGenerator[Loading | Release, None]]
"""Yields how far a release is, and last the release.

Raises:
    StartupError: something must be mended first; the sentence says what.
"""


@dataclass
class Served:
    """A release's place in the catalog. Requests hold it from their first line to their answer."""

    spec: ReleaseSpec
    state: Loading | Release | Failed = field(default_factory=lambda: Loading("starting"))
    requests: int = 0
    """Requests that hold it now."""
    dropped: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a dropped release's last request is done."""
    loading: asyncio.Task[None] | None = None

    @property
    def release(self) -> Release:
        """
        Raises:
            Unavailable: it is not loaded yet, or could not be loaded.
        """
        if not isinstance(self.state, Release):
            raise Unavailable(self.state.sentence)
        return self.state

    @property
    def backend(self) -> Backend | None:
        """Known once the model was read."""
        return self.state.backend

    @property
    def names(self) -> set[str]:
        """URL prefixes that mean this release: its name, and the data's own name for itself."""
        own = {self.state.revision} if isinstance(self.state, Release) else set()
        return {self.spec.name, *own} - {""}


class Catalog:
    """URL prefix to release. The first release is also served without a prefix."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._served: list[Served] = []

    async def add(self, spec: ReleaseSpec) -> None:
        """Load a release beside the others and serve it when it is ready.

        Raises:
            StartupError: it cannot be loaded. It stays in the catalog and says so; the others are not touched.
            ValueError: a release of this name is there already.
        """
        if any(served.spec.name == spec.name for served in self._served):
            raise ValueError(f"release {spec.name} is there already")
        served = Served(spec)
        self._served.append(served)
        served.loading = asyncio.create_task(self._fill(served))
        try:
            await served.loading
        except PremiseServerError as error:
            served.state = Failed(str(error))
            raise

    async def drop(self, name: str) -> None:
        """Take no more requests for a release, wait for those that hold it, then close it.

        Raises:
            KeyError: there is no release of this name.
        """
        served = next((served for served in self._served if served.spec.name == name), None)
        if served is None:
            raise KeyError(name)
        self._served.remove(served)
        await self._close(served)

    async def close(self) -> None:
        """Drop every release, however long its requests take."""
        served, self._served = self._served, []
        await asyncio.gather(*map(self._close, served))

    def resolve(self, path: str) -> tuple[Served | None, str]:
        """The release that a path means, and the path behind its prefix.

        Without a known prefix that is the first release and the whole path; None if there is no release at all.
        """
        parts = path.strip("/").split("/")
        best, length = (self._served[0] if self._served else None), 0
        for served in self._served:
            for name in served.names:
                prefix = name.strip("/").split("/")
                if len(prefix) > length and parts[: len(prefix)] == prefix:
                    best, length = served, len(prefix)
        return best, "/" + "/".join(parts[length:])

    @contextmanager
    def hold(self, served: Served) -> Iterator[None]:
        """A block in which a release is not closed, even if it is dropped meanwhile."""
        served.requests += 1
        try:
            yield
        finally:
            served.requests -= 1
            if served.dropped and served.requests == 0:
                served.idle.set()

    def known(self) -> list[str]:
        """Names of the releases, in order."""
        return [served.spec.name for served in self._served]

    async def _fill(self, served: Served) -> None:
        async with aclosing(self._load(served.spec)) as steps:
            async for state in steps:
                served.state = state

    async def _close(self, served: Served) -> None:
        served.dropped = True
        if served.loading is not None and not served.loading.done():
            served.loading.cancel()
            await asyncio.gather(served.loading, return_exceptions=True)
        if served.requests:
            await served.idle.wait()
        if isinstance(served.state, Release):
            await served.state.resources.aclose()
