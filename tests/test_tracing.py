"""A request's trace reaches from the API through its job to the batch; without an endpoint there is none."""

from pathlib import Path

import httpx

from tests.otlp_receiver import otlp_receiver
from tests.servers import Stack, stack, wait_for

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_request_job_and_batch_are_one_trace(tmp_path: Path) -> None:
    with otlp_receiver() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        with stack(tmp_path / "traced", **settings) as served:
            httpx.post(
                f"{served.base_url}/retrieve",
                json={"state": "⊢ SECRETGOAL", "k": 3},
                headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
                timeout=60,
            ).raise_for_status()
            mine = bytes.fromhex(TRACE)
            wait_for(
                lambda: {"POST /retrieve", "batch"} <= {s.name for _, s in receiver.spans if s.trace_id == mine},
                "the trace",
            )
        by_name = {span.name: (service, span) for service, span in receiver.spans if span.trace_id == mine}
        service, request = by_name["POST /retrieve"]
        assert service == "lean-premise-api"
        assert request.parent_span_id.hex() == PARENT
        for stage in ("read", "parse", "state", "search", "merge", "write"):
            _, span = by_name[stage]
            assert span.parent_span_id == request.span_id
            assert request.start_time_unix_nano - 10**6 <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= request.end_time_unix_nano + 10**6
        service, job = by_name["job"]
        assert service == "lean-premise-worker"
        assert job.parent_span_id == request.span_id
        _, batch = by_name["batch"]
        assert batch.parent_span_id == job.span_id
        assert [link.span_id for link in batch.links] == [job.span_id]
        assert not any("SECRETGOAL" in str(span) for _, span in receiver.spans)
        assert not {"GET /health/ready", "GET /metrics"} & {span.name for _, span in receiver.spans}


def test_a_receiver_that_is_away_costs_no_request_and_no_exit_status(tmp_path: Path) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with stack(tmp_path / "untraced", **settings) as served:
        for i in range(3):
            answer = httpx.post(f"{served.base_url}/retrieve", json={"state": f"⊢ {i}", "k": 3}, timeout=60)
            assert answer.status_code == 200
        assert "Traceback" not in served.log.read_text()


def test_without_an_endpoint_nothing_is_traced(served: Stack) -> None:
    assert served.env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") == ""
    answer = httpx.post(f"{served.base_url}/retrieve", json={"state": "⊢ untraced", "k": 1}, timeout=60)
    assert answer.status_code == 200
    assert "traceparent" not in answer.headers
