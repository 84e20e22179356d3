"""Two releases with different models side by side in one API process, over real Redis servers and real workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.trace import NoOpTracer

from api.app import create_app
from api.corpus.repository import DataSpec
from api.serving.catalog import Catalog
from api.serving.release import ReleaseSpec
from shared.errors import PremiseServerError
from shared.model.spec import ModelSpec
from shared.settings import Settings
from tests.support.archives import data_files, declaration, pack
from tests.support.models import Shape, write_roberta
from tests.support.roles import worker_process
from tests.support.servers import redis_server, role_env, wait_for

GOAL = "a b : Nat\n⊢ a + b = b + a"
READY_S = 60


@pytest.fixture(scope="module")
def lab_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_roberta(tmp_path_factory.mktemp("model") / "lab-model", [GOAL] * 20, Shape(32, 2, 4))


def lab_spec(directory: Path, model: Path) -> ReleaseSpec:
    lines = [declaration(f"lab{i}", type=f"{i} = {i}") for i in range(40)]
    pack(directory / "lab" / "premises.tar.gz", data_files({"Lab.Basic": lines}))
    return ReleaseSpec(
        "refs/pr/3", DataSpec(str(directory / "lab"), "main"), ModelSpec(str(model), "main", "lab-model", "float32")
    )


@asynccontextmanager
async def application(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Catalog]]:
    """The application in this process, started, and a client of it."""
    failures: list[PremiseServerError] = []
    app = create_app(settings, NoOpTracer(), failures.append, lambda: False)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as client,
    ):
        yield client, app.state.catalog
        assert failures == []


async def until_ready(client: httpx.AsyncClient, prefix: str) -> None:
    async with asyncio.timeout(READY_S):
        while (await client.get(f"{prefix}/health/ready")).status_code != 200:
            await asyncio.sleep(0.1)


async def names(client: httpx.AsyncClient, prefix: str, **fields: object) -> list[str]:
    answer = await client.post(f"{prefix}/retrieve", json={"state": GOAL, "k": 1024, **fields}, timeout=60)
    assert answer.status_code == 200, answer.text
    return [hit["name"] for hit in answer.json()]


def cached_bytes(cache: Any) -> dict[str, set[int]]:
    """Lengths of the cached values, by model."""
    lengths: dict[str, set[int]] = {}
    for key in cache.keys("emb:*"):
        model = key.decode().removeprefix("emb:").partition("@")[0]
        lengths.setdefault(model, set()).add(cache.strlen(key))
    return lengths


def test_releases_of_two_models_are_served_apart_and_one_is_dropped_while_it_is_asked(
    tmp_path: Path, lab_model: Path
) -> None:
    with ExitStack() as running:
        queue = running.enter_context(redis_server(tmp_path))
        cache = running.enter_context(redis_server(tmp_path, cache=True))
        env = role_env(tmp_path, REDIS_URL=queue.url, CACHE_REDIS_URL=cache.url, TORCH_THREADS="1")
        log = tmp_path / "workers.log"
        running.enter_context(worker_process(env, log))
        lab_env = {**env, "MODEL_ID": str(lab_model), "MODEL_NAME": "lab-model", "MODEL_REVISION": "main"}
        running.enter_context(worker_process(lab_env, log))
        values = {name.lower(): env[name] for name in ("REDIS_URL", "CACHE_REDIS_URL", "DATA_DIR", "DATA_REPO",
                                                       "MODEL_ID", "MODEL_NAME", "DTYPE")}  # fmt: skip
        settings = Settings.model_validate(values)
        with queue.client() as client:
            wait_for(lambda: len(client.keys("workers:*")) == 2, "two workers", READY_S)
        asyncio.run(ask_both(settings, lab_spec(tmp_path, lab_model), cache.client()))


async def ask_both(settings: Settings, lab: ReleaseSpec, cache: Any) -> None:
    async with application(settings) as (client, catalog):
        await until_ready(client, "")
        await catalog.add(lab)
        await until_ready(client, "/refs/pr/3")
        new = [{"name": "mine", "decl": "theorem mine : 1 = 1"}]
        demo, own = await names(client, "", new_premises=new), await names(client, "/refs/pr/3", new_premises=new)
        assert sorted(own) == sorted(["mine", *(f"lab{i}" for i in range(40))])
        assert "mine" in demo
        assert not any(name.startswith("lab") for name in demo)
        # Caches are apart: the same two texts are there once for each model, and of different widths.
        assert cached_bytes(cache) == {"lab-model": {4 * 32}, "all-MiniLM-L6-v2": {4 * 384}}
        versions = [(await client.get(f"{prefix}/version")).json()["model"] for prefix in ("", "/refs/pr/3")]
        assert [version.partition("@")[0] for version in versions] == ["all-MiniLM-L6-v2", "lab-model"]
        assert (await client.get("/refs/pr/3/indexed-modules")).json() == ["Lab.Basic"]

        asked = asyncio.create_task(names(client, "/refs/pr/3", state="⊢ a state that nobody asked before"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        served, _ = catalog.resolve("/refs/pr/3")
        assert served is not None
        assert served.requests == 1
        await catalog.drop("refs/pr/3")
        assert len(await asked) == 40
        gone = await client.post("/refs/pr/3/retrieve", json={"state": GOAL, "k": 1})
        assert gone.status_code == 404
        assert "not served here" in gone.json()["detail"]
        assert settings.data_revision in gone.json()["detail"]
        assert await names(client, "", new_premises=new) == demo
        await catalog.add(lab)  # and comes back, from the segment that was built before
        assert await names(client, "/refs/pr/3", new_premises=new) == own
