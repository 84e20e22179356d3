"""One line a request: JSON for collectors, text on a terminal, never what was asked."""

import io
import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from shared.commands.redis_server import free_port
from shared.logs import TextFormatter
from tests.support.servers import Stack, wait_for


def line_of(served: Stack, request: str) -> dict[str, Any]:
    """The request's line in the log of the running system."""

    def lines() -> list[str]:
        return [line for line in served.log.read_text().splitlines() if request in line]

    wait_for(lambda: bool(lines()), "the line")  # written when the answer is on its way
    (line,) = lines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_a_request_is_one_line_of_json(client: httpx.Client, served: Stack) -> None:
    name = uuid4().hex
    new = [{"name": "SECRETNAME", "decl": "SECRETDECL"}]
    answer = client.post(
        "/retrieve", json={"state": "SECRETGOAL", "k": 3, "new_premises": new}, headers={"X-Request-ID": name}
    )
    assert answer.headers["X-Request-ID"] == name
    line = line_of(served, name)
    assert line["level"] == "INFO"
    assert line["role"] == "api"
    assert (line["method"], line["route"], line["status"]) == ("POST", "/retrieve", 200)
    assert (line["states"], line["k"], line["new_premises"]) == (1, 3, 1)
    stages = {key: ms for key, ms in line.items() if key.endswith("_ms")}
    assert set(stages) == {
        f"{s}_ms" for s in ("read", "parse", "state", "new_premises", "accessible", "search", "merge", "write")
    }
    assert all(0 <= ms <= line["ms"] for ms in stages.values())
    assert "SECRET" not in served.log.read_text()


def test_a_refused_request_says_why(client: httpx.Client, served: Stack) -> None:
    answer = client.post("/retrieve", json={"state": "x"})
    line = line_of(served, answer.headers["X-Request-ID"])
    assert line["status"] == 422
    assert line["detail"] == answer.json()["detail"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "é".encode(), "<script>"])
def test_an_id_that_could_forge_lines_is_replaced(client: httpx.Client, given: str | bytes) -> None:
    value = given if isinstance(given, bytes) else given.encode()
    answer = client.get("/max-new-premises", headers={b"X-Request-ID": value})
    assert len(answer.headers["X-Request-ID"]) == 16


def test_what_machines_ask_every_few_seconds_has_no_line(client: httpx.Client, served: Stack) -> None:
    for route in ("/health/live", "/health/ready", "/metrics", "/status"):
        name = uuid4().hex
        client.get(route, headers={"X-Request-ID": name})
        assert name not in served.log.read_text()


def logged(formatter: logging.Formatter, *, error: bool = False) -> str:
    out = io.StringIO()
    logger = logging.Logger("test")
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    try:
        raise ValueError("odd")
    except ValueError:
        logger.info("request", extra={"status": 200, "ms": 1.5}, exc_info=error)
    return out.getvalue()


def test_on_a_terminal_fields_follow_the_message() -> None:
    assert logged(TextFormatter("%(levelname)s %(message)s")) == "INFO request status=200 ms=1.5\n"


def test_a_traceback_comes_after_the_line() -> None:
    first, second, *_, last = logged(TextFormatter("%(message)s"), error=True).splitlines()
    assert first == "request status=200 ms=1.5"
    assert second.startswith("Traceback")
    assert last == "ValueError: odd"


@pytest.mark.parametrize(("log_format", "expected"), [("auto", " api INFO "), ("json", '"role": "api"')])
def test_a_role_on_a_terminal_writes_text(served: Stack, tmp_path: Path, log_format: str, expected: str) -> None:
    outer, inner = pty.openpty()
    env = {**served.env, "LOG_FORMAT": log_format, "PORT": str(free_port())}
    process = subprocess.Popen([sys.executable, "-P", "-m", "api"], env=env, stderr=inner, cwd=tmp_path)
    os.close(inner)
    try:
        seen = b""
        while b"ready, with" not in seen:
            seen += os.read(outer, 4096)
        assert expected in seen.decode()
    finally:
        process.terminate()
        assert process.wait(30) == 0
        os.close(outer)
