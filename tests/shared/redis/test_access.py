"""Redis with a password, and behind TLS: it works with the right URL, and one sentence says what is wrong."""

import asyncio
from pathlib import Path

import httpx
import pytest

from shared.errors import StartupError
from shared.redis.client import connect, disconnect, require
from tests.support.lean_client import GOAL
from tests.support.roles import api_process, worker_process
from tests.support.servers import Stack, redis_server
from tests.support.tls_front import tls_front

PASSWORD = "p%2Fss w0rd"
"""As it is; in a URL `%` and the space are written percent-encoded."""
IN_URL = "p%252Fss%20w0rd"


def test_with_passwords_over_tls_requests_are_answered(served: Stack, tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, password=PASSWORD) as queue,
        redis_server(tmp_path, cache=True, password=PASSWORD) as cache,
        tls_front(queue.port, tmp_path) as (queue_tls, trusted),
    ):
        env = {
            **served.env,
            "REDIS_URL": f"rediss://:{IN_URL}@localhost:{queue_tls}/0?ssl_ca_certs={trusted}",
            "CACHE_REDIS_URL": f"redis://:{IN_URL}@127.0.0.1:{cache.port}/0",
        }
        log = tmp_path / "processes.log"
        with worker_process(env, log), api_process(env, log) as (_, url):
            answer = httpx.post(f"{url}/retrieve", json={"state": GOAL, "k": 3}, timeout=60)
            assert answer.status_code == 200
            assert len(answer.json()) == 3
        assert "w0rd" not in log.read_text()


def test_a_wrong_password_is_one_sentence_without_it(tmp_path: Path) -> None:
    with redis_server(tmp_path, password=PASSWORD) as queue:
        sentence = unusable(f"redis://:wr0ng@127.0.0.1:{queue.port}/0")
    assert "REDIS_URL" in sentence
    assert "wr0ng" not in sentence


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with redis_server(tmp_path) as queue, tls_front(queue.port, tmp_path) as (port, _):
        assert "certificate" in unusable(f"rediss://localhost:{port}/0").lower()


def unusable(url: str) -> str:
    """The sentence with which a role that needs this Redis ends."""

    async def told() -> str:
        redis = connect(url)
        try:
            with pytest.raises(StartupError) as refused:
                await require(redis, url, "REDIS_URL", patience_s=0.1)
        finally:
            await disconnect(redis)
        return str(refused.value)

    return asyncio.run(told())
