"""The catalog: prefixes, releases that come and go while requests hold them, and releases that cannot be loaded."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.corpus.repository import DataSpec
from api.http.release_prefix import no_such_route
from api.serving.catalog import Catalog
from api.serving.release import Loading, Release, ReleaseSpec
from shared.errors import StartupError, Unavailable
from shared.model.spec import ModelSpec

SEGMENT = st.text("abv4.29", min_size=1, max_size=5)
NAME = st.lists(SEGMENT, min_size=1, max_size=3).map("/".join)


def spec(name: str) -> ReleaseSpec:
    return ReleaseSpec(name, DataSpec("data", name), ModelSpec("model", "main", "model", "float32"))


class Releases:
    """A load function whose releases are empty, that can be held up or fail, and that notes what is closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.failing = False

    async def load(self, spec: ReleaseSpec) -> AsyncGenerator[Loading | Release, None]:
        async with AsyncExitStack() as resources:
            resources.callback(self.closed.append, spec.name)
            yield Loading("reading the data")
            await self.go_on.wait()
            if self.failing:
                raise StartupError("There is no data.")
            corpus = type("corpus", (), {"revision": f"data of {spec.name}"})
            retriever = cast(Any, type("retriever", (), {"corpus": corpus}))
            nothing = cast(Any, None)
            yield Release(spec, nothing, retriever, nothing, nothing, resources.pop_all())


async def catalog_of(*names: str) -> tuple[Catalog, Releases]:
    releases = Releases()
    catalog = Catalog(releases.load)
    for name in names:
        await catalog.add(spec(name))
    return catalog, releases


def meant(catalog: Catalog, path: str) -> tuple[str, str]:
    served, rest = catalog.resolve(path)
    assert served is not None
    return served.spec.name, rest


def test_the_first_release_needs_no_prefix_and_names_may_have_slashes() -> None:
    async def asked() -> None:
        catalog, _ = await catalog_of("v4.33.0", "refs/pr/3", "refs")
        assert meant(catalog, "/retrieve") == ("v4.33.0", "/retrieve")
        assert meant(catalog, "/v4.33.0/retrieve") == ("v4.33.0", "/retrieve")
        assert meant(catalog, "/refs/pr/3/retrieve") == ("refs/pr/3", "/retrieve")
        assert meant(catalog, "/refs/pr/3") == ("refs/pr/3", "/")
        assert meant(catalog, "/refs/retrieve") == ("refs", "/retrieve")
        assert meant(catalog, "/refs/pr/retrieve") == ("refs", "/pr/retrieve")
        assert meant(catalog, "/v4.28.0/retrieve") == ("v4.33.0", "/v4.28.0/retrieve")
        assert meant(catalog, "/data of refs/version") == ("refs", "/version")

    asyncio.run(asked())


@given(st.lists(NAME, min_size=1, max_size=5, unique=True), st.lists(SEGMENT, max_size=4))
def test_the_longest_name_at_the_path_s_start_is_meant(names: list[str], parts: list[str]) -> None:
    async def asked() -> None:
        catalog, _ = await catalog_of(*names)
        path = "/" + "/".join(parts)
        matching = [name for name in names if f"{path}/".startswith(f"/{name}/")]
        expected = max(matching, key=lambda name: name.count("/"), default=None)
        name, rest = meant(catalog, path)
        assert name == (expected or names[0])
        assert rest == (f"/{path[len(expected) + 2 :]}" if expected else path)

    asyncio.run(asked())


def test_without_a_release_there_is_nothing_to_mean() -> None:
    async def asked() -> None:
        catalog, _ = await catalog_of()
        assert catalog.resolve("/retrieve") == (None, "/retrieve")

    asyncio.run(asked())


def test_a_release_that_loads_says_so_and_leaves_the_others_alone() -> None:
    async def asked() -> None:
        catalog, releases = await catalog_of("one")
        releases.go_on.clear()
        adding = asyncio.create_task(catalog.add(spec("two")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        served, _ = catalog.resolve("/two/retrieve")
        assert served is not None
        with pytest.raises(Unavailable, match="not ready yet: reading the data"):
            _ = served.release
        assert catalog.resolve("/one/retrieve")[0] is not served
        releases.go_on.set()
        await adding
        assert served.release.spec.name == "two"
        with pytest.raises(ValueError, match="two is there already"):
            await catalog.add(spec("two"))

    asyncio.run(asked())


def test_a_release_that_fails_to_load_says_why_and_closes_what_it_opened() -> None:
    async def asked() -> None:
        catalog, releases = await catalog_of("one")
        releases.failing = True
        with pytest.raises(StartupError, match="no data"):
            await catalog.add(spec("two"))
        served, _ = catalog.resolve("/two/retrieve")
        assert served is not None
        with pytest.raises(Unavailable, match="There is no data"):
            _ = served.release
        assert catalog.resolve("/retrieve")[0] is not served
        assert releases.closed == ["two"]
        await catalog.drop("two")
        releases.failing = False
        await catalog.add(spec("two"))
        assert catalog.known() == ["one", "two"]

    asyncio.run(asked())


def test_a_dropped_release_is_closed_when_its_last_request_is_done() -> None:
    async def asked() -> None:
        catalog, releases = await catalog_of("one", "two")
        served, _ = catalog.resolve("/two/retrieve")
        assert served is not None
        with catalog.hold(served):
            with catalog.hold(served):
                dropping = asyncio.create_task(catalog.drop("two"))
                await asyncio.sleep(0.01)
                assert catalog.known() == ["one"]
                assert meant(catalog, "/two/retrieve") == ("one", "/two/retrieve")
                assert served.release.spec.name == "two"
            await asyncio.sleep(0.01)
            assert releases.closed == []
        await dropping
        assert releases.closed == ["two"]
        with pytest.raises(KeyError):
            await catalog.drop("two")
        await catalog.close()
        assert releases.closed == ["two", "one"]

    asyncio.run(asked())


def test_a_release_can_be_dropped_while_it_loads() -> None:
    async def asked() -> None:
        catalog, releases = await catalog_of("one")
        releases.go_on.clear()
        adding = asyncio.create_task(catalog.add(spec("two")))
        await asyncio.sleep(0.01)
        await catalog.drop("two")
        assert releases.closed == ["two"]
        assert (await asyncio.gather(adding, return_exceptions=True))[0] is not None
        assert catalog.known() == ["one"]

    asyncio.run(asked())


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v4.28.0/retrieve", "The release before the route is not served here"),
        ("/refs/pr/3/health/live", "The release before the route is not served here"),
        ("/nowhere", "There is no such route here"),
    ],
)
def test_an_unknown_prefix_names_the_known_releases(path: str, sentence: str) -> None:
    assert (
        no_such_route(path, ["/", "/retrieve", "/health/live"], ["v4.29.0", "lab"])
        == f"{sentence}; the releases served are v4.29.0, lab."
    )
