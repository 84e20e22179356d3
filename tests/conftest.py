"""Fixtures shared by all tests. Nothing is mocked: Redis, model, worker and HTTP server are real."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.corpus.archive import read_archive
from api.corpus.reader import ReadCorpus, read_corpus
from shared.commands.demo_run import demo_environment
from shared.model.directory import ModelDirectory, open_model
from shared.model.spec import ModelSpec
from shared.settings import Settings
from tests.support.servers import RedisServer, Stack, redis_server, stack


@pytest.fixture(scope="session")
def demo_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the demo model and corpus, with a data directory of the tests' own."""
    values = {name.lower(): value for name, value in demo_environment().items()}
    return Settings.model_validate({**values, "data_dir": tmp_path_factory.mktemp("data")})


@pytest.fixture(scope="session")
def model(demo_settings: Settings) -> ModelDirectory:
    return open_model(ModelSpec.of(demo_settings), demo_settings.data_dir, weights=True)


@pytest.fixture(scope="session")
def demo_corpus(demo_settings: Settings) -> ReadCorpus:
    return read_corpus(read_archive(Path(demo_settings.data_repo) / "premises.tar.gz"))


@pytest.fixture
def redis_instance(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One running system for all tests that only ask it things."""
    with stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def client(served: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.base_url, timeout=60) as client:
        yield client
