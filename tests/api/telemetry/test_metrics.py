"""`/metrics` and `/status` tell what was asked, from where it was answered, and what waits."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args
from uuid import uuid4

import httpx
from prometheus_client.parser import text_string_to_metric_families

from shared.commands.redis_server import free_port
from shared.errors import Full
from tests.support.servers import Stack, running, wait_for, wait_until_ready


def value(client: httpx.Client, name: str, labels: Mapping[str, str] | None = None) -> float:
    """A sample's value; 0 if there is none."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    wanted = labels or {}
    return sum(s.value for f in families for s in f.samples if s.name == name and s.labels == wanted)


def count(client: httpx.Client, route: str, status: str) -> float:
    return value(client, "premise_request_seconds_count", {"route": route, "status": status})


def texts(client: httpx.Client, lane: str, source: str) -> float:
    return value(client, "premise_texts_total", {"lane": lane, "source": source})


def test_requests_are_counted_by_route_and_status(client: httpx.Client) -> None:
    before = count(client, "/retrieve", "422")
    client.post("/retrieve", json={"state": "x"})
    assert count(client, "/retrieve", "422") == before + 1


def test_paths_that_no_route_answers_share_a_label(client: httpx.Client) -> None:
    before = count(client, "other", "404")
    client.get("/no/such/page")
    client.get("/nor/this")
    assert count(client, "other", "404") == before + 2


def test_texts_are_counted_by_where_their_embedding_came_from(client: httpx.Client) -> None:
    unique = uuid4().hex
    new = [{"name": f"new{i}", "decl": f"theorem {unique}{i}"} for i in range(3)]
    body = {"state": f"⊢ {unique}", "k": 2, "new_premises": new}
    sources = [
        ("interactive", "queued"),
        ("interactive", "near"),
        ("bulk", "queued"),
        ("bulk", "list"),
        ("bulk", "near"),
    ]

    def counts() -> list[float]:
        return [texts(client, *source) for source in sources]

    before = counts()
    client.post("/retrieve", json=body).raise_for_status()
    first = counts()
    assert [now - was for now, was in zip(first, before, strict=True)] == [1, 0, 3, 0, 0]
    client.post("/retrieve", json=body).raise_for_status()
    second = counts()
    assert [now - was for now, was in zip(second, first, strict=True)] == [0, 1, 0, 3, 0]
    client.post("/retrieve", json={**body, "new_premises": new[:2]}).raise_for_status()
    assert [now - was for now, was in zip(counts(), second, strict=True)] == [0, 1, 0, 0, 2]


def test_what_another_process_cached_counts_as_found_in_redis(
    served: Stack, client: httpx.Client, tmp_path: Path
) -> None:
    body = {"state": f"⊢ {uuid4().hex}", "k": 1}
    client.post("/retrieve", json=body).raise_for_status()
    port, log = free_port(), tmp_path / "api.log"
    url = f"http://127.0.0.1:{port}"
    with (
        running([sys.executable, "-P", "-m", "api"], {**served.env, "PORT": str(port)}, log) as process,
        httpx.Client(base_url=url) as other,
    ):
        wait_until_ready(url, process, log)
        other.post("/retrieve", json=body).raise_for_status()
        assert texts(other, "interactive", "redis") == 1
        assert texts(other, "interactive", "queued") == 0


def test_what_has_not_happened_yet_is_told_as_none(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    for reason in get_args(Full):
        assert f'premise_refused_total{{reason="{reason}"}}' in text


def test_searches_are_counted_by_what_proved_them(client: httpx.Client) -> None:
    def searches() -> float:
        return sum(value(client, "premise_searches_total", {"proof": proof}) for proof in ("bound", "widened"))

    before = searches()
    client.post("/retrieve/batch", json={"states": ["⊢ a", "⊢ b", "⊢ c"], "k": 2}).raise_for_status()
    client.post("/retrieve", json={"state": "⊢ a", "k": 0}).raise_for_status()
    assert searches() == before + 3


def test_answers_cut_and_premises_dropped_are_counted(client: httpx.Client) -> None:
    before = value(client, "premise_answers_truncated_total"), value(client, "premise_new_premises_dropped_total")
    new = [{"name": f"a.long.name.of.a.new.premise.{i:050}", "decl": "def a : Nat"} for i in range(2050)]
    answer = client.post(
        "/retrieve", json={"state": "⊢ a", "k": 1024, "new_premises": new}, headers={"User-Agent": "LeanProver"}
    )
    assert int(answer.headers["X-Premises-Truncated"]) > 0
    after = value(client, "premise_answers_truncated_total"), value(client, "premise_new_premises_dropped_total")
    assert (after[0] - before[0], after[1] - before[1]) == (1, 2)


def test_stages_that_requests_share_are_timed(client: httpx.Client) -> None:
    before = value(client, "premise_stage_seconds_count", {"stage": "embed"})
    client.post("/retrieve", json={"state": f"⊢ {uuid4().hex}", "k": 1}).raise_for_status()
    assert value(client, "premise_stage_seconds_count", {"stage": "embed"}) == before + 1


def test_queues_and_workers_are_told_by_every_process(client: httpx.Client) -> None:
    assert value(client, "premise_workers_alive") == 1
    wait_for(lambda: value(client, "premise_queue_texts", {"lane": "interactive"}) == 0, "an empty queue")


def test_several_processes_tell_the_sum(served: Stack, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "api.log"
    env = {**served.env, "PORT": str(port), "API_PROCESSES": "2"}
    url = f"http://127.0.0.1:{port}"
    with running([sys.executable, "-P", "-m", "api"], env, log) as process:
        wait_until_ready(url, process, log)
        wait_for(lambda: log.read_text().count("ready, with embeddings") == 2, "both", 60)
        for _ in range(20):  # each over a connection of its own, so that both get some
            httpx.post(f"{url}/retrieve", json={"state": "⊢ a", "k": 1}).raise_for_status()
        for _ in range(8):
            with httpx.Client(base_url=url) as client:
                assert count(client, "/retrieve", "200") == 20
                assert value(client, "premise_workers_alive") == 1
                assert sum(client.get("/status").json()["texts"].values()) >= 20


def test_status_names_workers_queues_and_caches(client: httpx.Client) -> None:
    wait_for(lambda: bool(client.get("/status").json()["workers"]), "the worker's word")
    status = client.get("/status").json()
    assert status["ready"] is True
    assert status["reasons"] == []
    assert status["premises"] == 816
    assert status["modules"] == len(client.get("/indexed-modules").json())
    assert set(status["queue"]) == {"interactive", "bulk"}
    assert set(status["texts"]) == {"list", "near", "redis", "joined", "queued"}
    (worker,) = status["workers"]
    assert worker["device"] == "CPU"
    assert worker["tokens_per_s"] >= 0
    assert worker["texts"] > 0
