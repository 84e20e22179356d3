"""A wrong setting is one sentence that names the variable and never shows the value."""

from pathlib import Path

import pytest

from shared.errors import StartupError
from shared.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory with no `.env`, and an environment that sets nothing."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "eighty"),
        ("PORT", "80.5"),
        ("REQUEST_TIMEOUT", "0"),
        ("REQUEST_TIMEOUT", "-1"),
        ("REQUEST_TIMEOUT", "nan"),
        ("REQUEST_TIMEOUT", "inf"),
        ("STATE_TTL", "0"),
        ("PREMISE_TTL", "1e12"),
        ("MAX_BODY_BYTES", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("DTYPE", "int8"),
        ("DEVICE", "tpu"),
        ("MAX_K", "0"),
        ("MAX_NEW_PREMISES", "many"),
        ("MAX_BATCH_TOKENS", "0"),
        ("MAX_BATCH_TOKENS", "511"),
        ("LRU_CACHE_SIZE", "-5"),
        ("CHUNK_TOKENS", "0"),
        ("TORCH_THREADS", "-1"),
        ("EMBED_SERVICE_MAX_CONCURRENT_INPUTS", "2048"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost:6379"),
        ("REDIS_URL", "redis://localhost:port"),
        ("CACHE_REDIS_URL", "redis://localhost:6379/cache"),
    ],
)
def test_an_invalid_value_is_one_sentence_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as raised:
        load_settings()
    sentence = str(raised.value)
    assert name in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "pydantic" not in sentence.lower()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "hunter2"),
        ("DTYPE", "hunter2"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "redis://:hunter2/x@host:6379/0"),
        ("REDIS_URL", "redis://user:1#hunter2@host:6379/0"),
        ("CACHE_REDIS_URL", "redis://host:hunter2/0"),
        ("CACHE_REDIS_URL", "redis://[hunter2/0"),
        ("API_KEY", "hunter2/x"),
        ("API_KEY", "hunter2 "),
    ],
)
def test_the_wrong_value_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__, "the error that is left behind shows the value"


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://127.0.0.1:6379/0",
        "rediss://user:pass%2Fword@redis.example.org:6380/1?ssl_cert_reqs=none",
        "redis://:p@ss@host:6379/0",
        "redis://[::1]:6379/0",
        "unix:///run/redis/redis.sock?db=1",
    ],
)
def test_every_form_of_redis_url_is_accepted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert load_settings().redis_url == url


def test_limits_that_contradict_one_another_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_NEW_PREMISES", "10000")
    with pytest.raises(StartupError, match="EMBED_SERVICE_MAX_CONCURRENT_INPUTS must exceed MAX_NEW_PREMISES"):
        load_settings()
    monkeypatch.setenv("EMBED_SERVICE_MAX_CONCURRENT_INPUTS", "10001")
    assert load_settings().max_new_premises == 10_000


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, empty_surroundings: Path) -> None:
    (empty_surroundings / ".env").write_text("PORT=81\nMAX_K=7\n")
    monkeypatch.setenv("PORT", "82")
    settings = load_settings()
    assert (settings.port, settings.max_k) == (82, 7)


def test_names_are_case_insensitive(monkeypatch: pytest.MonkeyPatch, empty_surroundings: Path) -> None:
    (empty_surroundings / ".env").write_text("max_k=7\n")
    monkeypatch.setenv("Port", "82")
    settings = load_settings()
    assert (settings.port, settings.max_k) == (82, 7)


def test_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert load_settings() == Settings.model_validate({})


def test_other_variables_are_left_alone(empty_surroundings: Path) -> None:
    (empty_surroundings / ".env").write_text("HF_TOKEN=secret\nPORT=81\n")
    assert load_settings().port == 81


def test_a_file_that_is_not_text_is_one_sentence(empty_surroundings: Path) -> None:
    (empty_surroundings / ".env").write_bytes(b"PORT=81\n\xff\xfe\n")
    with pytest.raises(StartupError, match=r"\.env is not UTF-8"):
        load_settings()


def test_the_cache_is_the_queues_redis_unless_it_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://queue:6379/0")
    assert load_settings().cache_url == "redis://queue:6379/0"
    monkeypatch.setenv("CACHE_REDIS_URL", "redis://cache:6379/0")
    assert load_settings().cache_url == "redis://cache:6379/0"


def test_settings_cannot_change_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 81  # type: ignore[misc]  # what is tested
