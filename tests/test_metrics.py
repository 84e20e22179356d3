"""`/metrics` tells requests apart by route and status."""

import httpx
from prometheus_client.parser import text_string_to_metric_families


def count(client: httpx.Client, route: str, status: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = next(f for f in families if f.name == "premise_request_seconds").samples
    wanted = {"route": route, "status": status}
    return sum(s.value for s in samples if s.name.endswith("_count") and s.labels == wanted)


def test_requests_are_counted_by_route_and_status(client: httpx.Client) -> None:
    before = count(client, "/retrieve", "422")
    client.post("/retrieve", json={"state": "x"})
    assert count(client, "/retrieve", "422") == before + 1


def test_paths_that_no_route_answers_share_a_label(client: httpx.Client) -> None:
    before = count(client, "other", "404")
    client.get("/no/such/page")
    client.get("/nor/this")
    assert count(client, "other", "404") == before + 2
