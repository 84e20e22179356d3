"""Who is let in: keys, limits for each client, slow clients, clients that hang up."""

import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from api.http.connection import HEADERS_S
from shared.commands.redis_server import free_port
from tests.api.telemetry.test_metrics import count
from tests.support.lean_client import GOAL
from tests.support.servers import Stack, running, wait_for, wait_until_ready

KEY = "s3cret-key"
BODY = {"state": GOAL, "k": 3}


@pytest.fixture(scope="module")
def locked(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[str], Path]]:
    """Two API processes that want a key and admit ten states a minute; and their log."""
    log = tmp_path_factory.mktemp("locked") / "api.log"
    urls = []
    with ExitStack() as stack:
        for _ in range(2):
            port = free_port()
            env = {**served.env, "PORT": str(port), "API_KEY": KEY, "RATE_LIMIT": "10", "LOG_LEVEL": "DEBUG"}
            process = stack.enter_context(running([sys.executable, "-P", "-m", "api"], env, log))
            urls.append(f"http://127.0.0.1:{port}")
            wait_until_ready(urls[-1], process, log)
        yield urls, log


def ask(url: str, key: str, client: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": client}
    return httpx.post(f"{url}/retrieve", json=BODY, headers=headers, timeout=60)


@pytest.mark.parametrize("path", ["retrieve", f"{KEY}x/retrieve", f"v4.33.0/{KEY}/retrieve", "Bearer/retrieve"])
@pytest.mark.parametrize("bearer", ["", "Bearer", f"Bearer {KEY[:-1]}", f"Basic {KEY}", "Bearer é"])
def test_without_the_key_nothing_is_answered(locked: tuple[list[str], Path], path: str, bearer: str) -> None:
    headers = {b"Authorization": bearer.encode()} if bearer else None
    answer = httpx.post(f"{locked[0][0]}/{path}", json=BODY, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert set(answer.json()) == {"detail"}


@pytest.mark.parametrize(
    "path", ["", "page/page.js", "metrics", "indexed-modules", "docs", "openapi.json", "health/ready/x"]
)
def test_no_route_but_health_is_open(locked: tuple[list[str], Path], path: str) -> None:
    assert httpx.get(f"{locked[0][0]}/{path}").status_code == 401
    assert httpx.get(f"{locked[0][0]}/health/ready").status_code == 200


@pytest.mark.parametrize("base", [KEY, f"/{KEY}/", f"{KEY}/v4.33.0"])
def test_a_key_in_the_base_url_serves_clients_that_can_set_nothing_else(
    locked: tuple[list[str], Path], served: Stack, base: str
) -> None:
    base = base.replace("v4.33.0", httpx.get(f"{served.base_url}/version").json()["data_reports"])
    url = f"{locked[0][0]}/{base}"
    assert httpx.get(f"{url}/max-new-premises").json() == 2048
    answer = httpx.post(f"{url}/retrieve", json=BODY, headers={"X-Forwarded-For": "192.0.2.1"}, timeout=60)
    assert len(answer.json()) == 3


def test_a_client_has_its_minute_over_all_processes_and_others_have_theirs(locked: tuple[list[str], Path]) -> None:
    urls, _ = locked
    while time.time() % 60 > 50:  # the minute must not end meanwhile
        time.sleep(0.5)
    answers = [ask(urls[i % 2], KEY, "198.51.100.7") for i in range(12)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert ask(urls[0], KEY, "198.51.100.8").status_code == 200
    states = {"states": [GOAL] * 11, "k": 1}
    headers = {"Authorization": f"bearer {KEY}", "X-Forwarded-For": "198.51.100.9"}
    assert httpx.post(f"{urls[0]}/retrieve/batch", json=states, headers=headers, timeout=60).status_code == 429


def test_the_key_and_the_goal_are_in_no_log(locked: tuple[list[str], Path]) -> None:
    urls, log = locked
    httpx.post(f"{urls[0]}/{KEY}/retrieve", json={"state": "GOALTEXT", "k": 1}, timeout=60)
    httpx.get(f"{urls[0]}/{KEY}/no/such/route")
    httpx.get(f"{urls[0]}/{KEY}")
    text = log.read_text()
    assert text
    assert KEY not in text
    assert "GOALTEXT" not in text


def raw(base_url: str, sent: bytes) -> socket.socket:
    address = urlsplit(base_url)
    connection = socket.create_connection((address.hostname, address.port or 80), timeout=HEADERS_S + 10)
    connection.sendall(sent)
    return connection


def received(connection: socket.socket) -> bytes:
    """An answer to the end of its JSON; its parts may come one by one."""
    answer = b""
    while not answer.endswith(b"}") and (part := connection.recv(10_000)):
        answer += part
    return answer


def test_headers_that_never_end_are_given_up(served: Stack) -> None:
    half = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
    answered = raw(served.base_url, half + b"\r\n")
    assert received(answered).startswith(b"HTTP/1.1 200 ")
    answered.sendall(b"\r\n")  # no request, but a sign of life
    slow = [
        answered,
        *(raw(served.base_url, sent) for sent in (b"", b"\r\n", b"POST /retr", half + b"X-Slow: 1\r\nX-")),
    ]
    start = time.monotonic()
    for connection in slow:
        with connection:
            answer = received(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert answer.endswith(b"}")
            assert connection.recv(10_000) == b""
    assert time.monotonic() - start > HEADERS_S - 1


def test_what_is_not_http_gets_an_error_in_json(served: Stack) -> None:
    with raw(served.base_url, b"\x16\x03\x01 not http\r\n\r\n") as connection:
        head, _, body = received(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body == b'{"detail":"The request is not valid HTTP."}'


def test_many_clients_with_the_same_long_list_are_all_served(served: Stack) -> None:
    new = [{"name": f"n{i}", "decl": f"theorem same{i} : {i} = {i} is the list of many"} for i in range(200)]

    def ask_once(i: int) -> int:
        body = {"state": f"{GOAL} {i % 3}", "k": 3, "new_premises": new}
        return httpx.post(f"{served.base_url}/retrieve", json=body, timeout=60).status_code

    with ThreadPoolExecutor(40) as clients:
        assert list(clients.map(ask_once, range(40))) == [200] * 40


def test_the_one_of_many_who_hangs_up_takes_the_list_from_nobody(served: Stack) -> None:
    new = [{"name": f"n{i}", "decl": f"def held{i} : {i} = {i} {'again ' * 20}"} for i in range(200)]
    body = {"state": GOAL, "k": 3, "new_premises": new}

    def impatient() -> None:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.base_url}/retrieve", json=body, timeout=0.3)

    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(impatient)
        time.sleep(0.1)
        answer = httpx.post(f"{served.base_url}/retrieve", json=body, timeout=60)
        first.result()
    assert answer.status_code == 200


def test_a_client_that_hangs_up_is_not_served_further(served: Stack, client: httpx.Client) -> None:
    before = count(client, "/retrieve", "499")
    slow = {"state": GOAL, "k": 1, "new_premises": [{"name": str(i), "decl": f"{i} gone " * 60} for i in range(300)]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{served.base_url}/retrieve", json=slow, timeout=0.5)
    wait_for(lambda: count(client, "/retrieve", "499") == before + 1, "the end of the request", 5)


def test_a_limit_that_cannot_be_counted_admits(served: Stack, tmp_path: Path) -> None:
    """Redis has no memory left for the counter: `noeviction` refuses the write, the request goes on."""
    port, log = free_port(), tmp_path / "api.log"
    env = {**served.env, "PORT": str(port), "RATE_LIMIT": "1"}
    with running([sys.executable, "-P", "-m", "api"], env, log) as process:
        wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        url = f"http://127.0.0.1:{port}/retrieve"
        httpx.post(url, json=BODY, timeout=60)
        with served.queue.client() as queue:
            try:
                queue.config_set("maxmemory", "1mb")
                assert [httpx.post(url, json=BODY, timeout=60).status_code for _ in range(3)] == [200] * 3
                with pytest.raises(redis.ResponseError, match="maxmemory"):
                    queue.set("x", "y")
            finally:
                queue.config_set("maxmemory", "0")
