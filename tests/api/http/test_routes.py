"""Paths, methods and headers as clients send them, and the routes beyond the contract."""

import json
import shutil
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.demo_data import demo_rows
from tests.support.lean_client import GOAL, LEAN_AGENT, error_sentence, new_premise, retrieve
from tests.support.servers import Stack

BODY = json.dumps({"state": GOAL, "k": 5}).encode()
CONTRACT = ("/max-new-premises", "/indexed-premises", "/indexed-modules")
MARKER = "MARKER7f3a"


def at(served: Stack, path: str) -> str:
    """As a client builds a URL; httpx would read `//retrieve` as a host."""
    return served.base_url + path


@pytest.mark.parametrize(
    "path",
    [
        "//retrieve",
        "/retrieve/",
        "///retrieve//",
        "/v4.33.0/retrieve",
        "/demo-1/retrieve",
        "/v4.33.0//retrieve/",
        "/retrieve?x=1",
    ],
)
def test_a_path_with_spare_slashes_or_a_served_revision_is_retrieve(
    client: httpx.Client, served: Stack, path: str
) -> None:
    answer = client.post(at(served, path), content=BODY, follow_redirects=False)
    assert answer.status_code == 200
    assert answer.content == client.post("/retrieve", content=BODY).content


@pytest.mark.parametrize("route", CONTRACT)
@pytest.mark.parametrize("form", ["/{}", "{}/", "/v4.33.0{}", "/demo-1{}"])
def test_the_other_routes_take_the_same_paths(client: httpx.Client, served: Stack, route: str, form: str) -> None:
    answer = client.get(at(served, form.format(route)), follow_redirects=False)
    assert answer.status_code == 200
    assert answer.content == client.get(route).content


@pytest.mark.parametrize("path", ["/nowhere", f"/{MARKER}/retrieve", f"/retrieve/{MARKER}", "/v4.28.0/retrieve"])
def test_another_path_is_not_found(client: httpx.Client, path: str) -> None:
    answer = client.post(path, content=BODY)
    assert MARKER not in error_sentence(answer, 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_is_told_the_right_one(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/retrieve")
    error_sentence(answer, 405)
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("route", CONTRACT)
def test_what_is_got_cannot_be_posted(client: httpx.Client, route: str) -> None:
    error_sentence(client.post(route, content=BODY), 405)


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain", "application/json"])
def test_the_content_type_does_not_matter(client: httpx.Client, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert len(client.post("/retrieve", content=BODY, headers=headers).json()) == 5


def test_expect_100_continue_is_answered_before_the_body_is_sent(served: Stack) -> None:
    url = httpx.URL(served.base_url)
    head = (
        f"POST /retrieve HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(BODY)}\r\n"
        "Expect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((url.host, url.port or 80), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])) == 5


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_as_the_lean_client_calls_it(served: Stack, tmp_path: Path) -> None:
    """With a body above 1 MiB, for which curl asks `Expect: 100-continue` of its own accord."""
    body: dict[str, Any] = {"state": GOAL, "k": 20, "local_premises": [row.name for row in demo_rows()] * 100}
    body["new_premises"] = [new_premise("mine", GOAL)]
    content = json.dumps(body, ensure_ascii=False).encode()
    assert len(content) > 1 << 20
    trace = tmp_path / "trace"
    options = ["--user-agent", LEAN_AGENT, "--header", "Content-Type: application/json", "--data", "@-"]
    curl = ["curl", "-s", "--trace-ascii", str(trace), "-X", "POST", *options, at(served, "/retrieve")]
    printed = subprocess.run(curl, input=content, capture_output=True, check=True, timeout=60).stdout
    assert json.loads(printed)[0]["name"] == "mine"
    assert len(json.loads(printed)) == 20
    assert "HTTP/1.1 100 Continue" in trace.read_text()


def test_a_batch_answers_each_state_as_a_request_of_its_own(client: httpx.Client) -> None:
    states = [GOAL, "", "⊢ True", GOAL, "p q : Prop\n⊢ p ∨ q ↔ q ∨ p"]
    shared: dict[str, Any] = {
        "k": 30,
        "imported_modules": ["Init.Core", "Init.PropLemmas"],
        "local_premises": ["Nat.add_comm"],
        "caller_in_module_system": True,
        "new_premises": [new_premise("mine", GOAL), new_premise("or_comm")],
    }
    batch = client.post("/retrieve/batch", json={"states": states, **shared})
    assert batch.status_code == 200
    assert batch.json() == [retrieve(client, state=state, **shared).json() for state in states]


def test_a_batch_of_nothing_and_a_batch_that_asks_for_nothing(client: httpx.Client) -> None:
    assert client.post("/retrieve/batch", json={"states": [], "k": 5}).json() == []
    assert client.post("/retrieve/batch", json={"states": [GOAL, GOAL], "k": 0}).json() == [[], []]


def test_a_batch_says_how_many_new_premises_were_dropped(client: httpx.Client) -> None:
    body = {"states": [GOAL], "k": 1, "new_premises": [new_premise("x")] * 2050}
    assert client.post("/retrieve/batch", json=body).headers["X-New-Premises-Dropped"] == "2"


@pytest.mark.parametrize(
    "fields", [{"state": MARKER}, {"states": MARKER}, {"states": [MARKER, None]}, {"states": [MARKER], "k": MARKER}]
)
def test_a_batch_of_the_wrong_form_is_refused(client: httpx.Client, fields: dict[str, Any]) -> None:
    answer = client.post("/retrieve/batch", json={"k": 5, **fields})
    assert MARKER not in error_sentence(answer, 422)


def test_health_says_live_and_ready(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "reasons": []}
    assert client.get("/health").json() == client.get("/health/ready").json()


def test_version_says_what_is_served(client: httpx.Client) -> None:
    answer = client.get("/version").json()
    assert answer["version"] == version("lean-premise-server")
    assert answer["data_revision"] == "v4.33.0"
    assert answer["data_reports"] == "demo-1"
    name, _, rest = answer["model"].partition("@")
    assert name == "all-MiniLM-L6-v2"
    assert rest.endswith(":float32")
    provenance = answer["provenance"]
    assert len(provenance["archive_sha256"]) == 64
    assert provenance["embeddings"] == "computed"
    assert sum(provenance["filtered"].values()) > 0
    assert provenance["left_out"] == []
    assert provenance["least_cosine"] >= 0.9999


def references(document: Any) -> set[str]:
    """Every `$ref` in it."""
    if isinstance(document, list):
        return set().union(*map(references, document))
    if isinstance(document, dict):
        own = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
        return own.union(*map(references, document.values()))
    return set()


def test_the_openapi_document_describes_the_bodies_and_its_references_lead_somewhere(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert {"/retrieve", "/retrieve/batch", "/declarations", *CONTRACT} <= set(document["paths"])
    found = references(document)
    assert {f"#/components/schemas/{name}Body" for name in ("Retrieve", "Batch", "Declarations")} <= found
    for reference in found:
        target = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
    assert set(document["components"]["schemas"]["RetrieveBody"]["required"]) == {"state", "k"}


def test_the_documentation_page_is_there(client: httpx.Client) -> None:
    assert client.get("/docs").status_code == 200


def test_a_revision_prefix_reaches_everything(client: httpx.Client) -> None:
    for path in ("/version", "/health/live", "/openapi.json"):
        assert client.get(f"/demo-1{path}").status_code == 200
