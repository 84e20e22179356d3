"""A listening socket, or the sentence that says why there is none."""

import socket
from pathlib import Path

import httpx
import pytest

from shared.commands.redis_server import free_port
from shared.errors import StartupError
from shared.listen import bare_host, bind_errors, listen, require_free
from tests.support.roles import worker_process
from tests.support.servers import Stack, wait_for


def skip_without_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_an_ipv4_client_reaches_what_listens(host: str) -> None:
    port = free_port()
    with listen(host, port):
        socket.create_connection(("127.0.0.1", port), 5).close()


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "[::]"])
def test_an_ipv6_client_reaches_what_listens(host: str) -> None:
    skip_without_ipv6()
    port = free_port()
    with listen(host, port):
        socket.create_connection(("::1", port), 5).close()


@pytest.mark.parametrize(("host", "bare"), [("[::]", "::"), ("::", "::"), ("[::1]", "::1"), ("127.0.0.1", "127.0.0.1")])
def test_an_address_is_read_with_and_without_brackets(host: str, bare: str) -> None:
    assert bare_host(host) == bare


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for check in (listen, require_free):
            with pytest.raises(StartupError) as error:
                check("127.0.0.1", port)
            assert str(error.value) == f"Cannot listen on 127.0.0.1:{port} (HOST, PORT): Address already in use."
    require_free("127.0.0.1", port)
    listen("127.0.0.1", port).close()


def test_an_ipv6_address_stands_in_brackets() -> None:
    skip_without_ipv6()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        for host in ("::1", "[::1]"):
            with pytest.raises(StartupError) as error:
                listen(host, port)
            assert str(error.value) == f"Cannot listen on [::1]:{port} (HOST, PORT): Address already in use."


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70, "256.1.1.1", "[::1", "192.0.2.1"])
def test_a_host_that_is_not_here_is_one_sentence(host: str) -> None:
    with pytest.raises(StartupError, match=r"^Cannot listen on .*:8000 \(HOST, PORT\): .+\.$") as error:
        listen(host, 8000)
    assert len(str(error.value).splitlines()) == 1


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(KeyError), bind_errors("127.0.0.1", 80, "HOST, PORT"):
        raise KeyError


def test_a_worker_serves_its_metrics_there_or_ends_with_the_sentence(served: Stack, tmp_path: Path) -> None:
    skip_without_ipv6()
    port, log = free_port(), tmp_path / "worker.log"
    env = {**served.env, "HOST": "[::1]", "WORKER_METRICS_PORT": str(port)}
    with worker_process(env, log) as first:

        def answers() -> bool:
            assert first.poll() is None, log.read_text()
            try:
                return "premise_worker_texts_total" in httpx.get(f"http://[::1]:{port}/metrics").text
            except httpx.TransportError:
                return False

        wait_for(answers, "the metrics", 60)
        with worker_process(env, log) as second:
            assert second.wait(60) == 1
    sentence = f"worker: Cannot listen on [::1]:{port} (HOST, WORKER_METRICS_PORT): Address already in use."
    assert sentence in log.read_text().splitlines()
