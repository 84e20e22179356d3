"""Whatever a client sends is answered: errors in the contract's form, and the server lives on."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.lean_client import GOAL, error_sentence, new_premise, retrieve
from tests.support.servers import Stack

MARKER = "MARKER7f3a"
"""In every bad input; in no answer and no log line."""
TOO_LARGE = 40_000_000
DEEP = 100_000
SURROGATE = "\\ud800"
"""A lone one, as JSON escapes it."""


def body(state: str = f'"{MARKER}"', k: str = "3", rest: str = "") -> bytes:
    """A request with these pieces of JSON in their places."""
    return f'{{"state":{state},"k":{k}{rest}}}'.encode()


def nested(opening: str, closing: str, inmost: str = "") -> str:
    return opening * DEEP + inmost + closing * DEEP


BAD = {
    "empty": b"",
    "blank": b" \n",
    "no JSON": MARKER.encode(),
    "half of it": body()[:-3],
    "two of them": body() * 2,
    "python": b"{'state': 'MARKER7f3a', 'k': 3}",
    "NaN": body(k="NaN"),
    "infinity": body(k="-Infinity"),
    "beyond floats": body(k="1e999"),
    "beyond integers": body(k="1" + "0" * 5_000),
    "null": b"null",
    "array": f'["{MARKER}"]'.encode(),
    "string": f'"{MARKER}"'.encode(),
    "number state": body(state="7"),
    "object state": body(state=f'{{"{MARKER}":1}}'),
    "marker k": body(k=f'"{MARKER}"'),
    "long marker k": body(k=f'"{MARKER * 10_000}"'),
    "modules": body(rest=f',"imported_modules":"{MARKER}"'),
    "module entry": body(rest=f',"imported_modules":[{{"{MARKER}":1}}]'),
    "flag": body(rest=f',"caller_in_module_system":"{MARKER}"'),
    "new premises": body(rest=f',"new_premises":["{MARKER}"]'),
    "new premise": body(rest=f',"new_premises":[{{"name":"{MARKER}","decl":null}}]'),
    "raw NUL": body(state=f'"{MARKER}\x00"'),
    "raw newline": body(state=f'"{MARKER}\n"'),
    "NUL around": b"\x00" + body(),
    "byte order mark": b"\xef\xbb\xbf" + body(),
    "UTF-16": body().decode().encode("utf-16"),
    "not UTF-8": body(state=f'"{MARKER}?"').replace(b"?", b"\xff\xfe"),
    "not UTF-8 in a list": body(rest=',"local_premises":["?"]').replace(b"?", b"\xc3\x28"),
    "not UTF-8 in a name": body(rest=f',"new_premises":[{{"name":"?{MARKER}","decl":""}}]').replace(b"?", b"\xff"),
    "raw surrogate": body(state=f'"{MARKER}?"').replace(b"?", b"\xed\xa0\x80"),
    "lone surrogate state": body(state=f'"{MARKER}{SURROGATE}"'),
    "lone surrogate before more": body(state=f'"{SURROGATE} {MARKER}"'),
    "lone low surrogate": body(state=f'"{MARKER}\\udc00"'),
    "lone surrogate name": body(rest=f',"new_premises":[{{"name":"{SURROGATE} {MARKER}","decl":""}}]'),
    "lone surrogate module": body(rest=f',"imported_modules":["{MARKER}{SURROGATE}"]'),
    "deep arrays": nested("[", "]").encode(),
    "deep state": body(state=nested("[", "]")),
    "deep entry": body(rest=f',"imported_modules":[{nested("[", "]")}]'),
    "deep and unknown": body(rest=f',"{MARKER}":{nested("[", "]")}'),
    "deep objects": body(rest=f',"{MARKER}":' + nested('{"a":', "}", "1")),
    "deep in a new premise": body(rest=f',"new_premises":[{{"name":"","decl":"","x":{nested("[", "]")}}}]'),
    "deep without an end": body(rest=',"x":' + "[" * DEEP),
}

GOOD = {
    "escaped NUL": {"state": "a\x00b"},
    "NUL in names": {"local_premises": ["\x00"], "new_premises": [new_premise("\x00", "\x00")]},
    "astral characters": {"state": "𝓝 x ⊓ 𝓟 s 🜁"},
    "a word of a million letters": {"state": "a" * 1_000_000},
    "two million characters": {"state": "h : Nat\n" * 250_000},
    "two million blanks": {"state": " " * 2_000_000},
    "five thousand new premises": {"new_premises": [new_premise(f"n{i}") for i in range(5_000)]},
    "a long decl": {"new_premises": [new_premise("long", "x = x ∧ " * 50_000)]},
    "a long name": {"new_premises": [new_premise("n" * 100_000, "")]},
    "many positions": {"local_premises": list(range(-100_000, 100_000))},
    "a name of every kind": {"imported_modules": ["", ".", "/", ".lean", "../../etc/passwd", "a\nb", "%00"]},
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_bad_input_gets_a_short_sentence_without_the_input(client: httpx.Client, content: bytes) -> None:
    answer = client.post("/retrieve", content=content)
    assert MARKER not in error_sentence(answer, 422)


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_unusual_input_is_answered(client: httpx.Client, fields: dict[str, Any]) -> None:
    assert "NaN" not in retrieve(client, k=10, **fields).text


def test_a_word_beyond_what_is_read_is_refused_with_the_reason(client: httpx.Client) -> None:
    answer = client.post("/retrieve", json={"state": "a" * 2_000_000, "k": 1})
    assert "a word of over 1,048,576 characters is not read" in error_sentence(answer, 422)


def test_a_surrogate_pair_is_one_character(client: httpx.Client) -> None:
    escaped = client.post("/retrieve", content=body(state='"\\ud835\\udcdd"'))
    assert escaped.json() == retrieve(client, state="𝓝", k=3).json()


def test_a_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/retrieve", content=body(state=f'"{MARKER * (TOO_LARGE // len(MARKER))}"'))
    assert MARKER not in error_sentence(answer, 413)


def test_a_body_of_unknown_length_is_refused_once_it_is_too_large(client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(TOO_LARGE // 1_000_000):
            yield b"x" * 1_000_000

    error_sentence(client.post("/retrieve", content=parts()), 413)


@pytest.mark.parametrize("route", ["/retrieve", "/retrieve/batch"])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(served: Stack, route: str) -> None:
    head = f"POST {route} HTTP/1.1\r\nHost: x\r\nContent-Length: {TOO_LARGE}\r\nExpect: 100-continue\r\n"
    with connection(served) as client:
        client.sendall(head.encode() + b"Connection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["detail"]


def test_clients_that_hang_up_disturb_nobody(client: httpx.Client, served: Stack) -> None:
    head = f"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body())}\r\n\r\n".encode()
    for sent in (head[:20], head, head + body()[:9], head + body(state='"⊢ never read"')):
        with connection(served) as hasty:
            hasty.sendall(sent)
    assert len(retrieve(client, k=3).json()) == 3


def test_after_all_of_this_the_server_still_answers_and_has_seen_no_fault(client: httpx.Client, served: Stack) -> None:
    for content in BAD.values():
        assert client.post("/retrieve", content=content).status_code == 422
    assert client.get("/health/ready").status_code == 200
    assert len(retrieve(client, state="⊢ a goal that nobody has asked before", k=5).json()) == 5
    assert len(retrieve(client, state=GOAL, k=5).json()) == 5
    log = served.log.read_text()
    assert "Traceback" not in log
    assert MARKER not in log


def connection(served: Stack) -> socket.socket:
    url = httpx.URL(served.base_url)
    return socket.create_connection((url.host, url.port or 80), timeout=60)
