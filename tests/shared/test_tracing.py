"""A request's trace reaches from the API through its job to the batch."""

from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.support.otlp_receiver import Receiver, otlp_receiver
from tests.support.roles import api_process, worker_process
from tests.support.servers import Stack, redis_server, wait_for

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_request_job_and_batch_are_one_trace_and_a_receiver_that_goes_away_costs_nothing(
    served: Stack, tmp_path: Path
) -> None:
    with otlp_receiver() as receiver, ExitStack() as stack:
        log = tmp_path / "processes.log"
        env = {
            **served.env,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "REDIS_URL": stack.enter_context(redis_server(tmp_path)).url,  # for a worker that traces, and no other
        }
        worker = stack.enter_context(worker_process(env, log))
        api, url = stack.enter_context(api_process(env, log))
        check_trace(receiver, url)
        receiver.close()
        for i in range(3):
            assert httpx.post(f"{url}/retrieve", json={"state": f"⊢ {i}", "k": 3}, timeout=60).status_code == 200
        for process in (api, worker):
            process.terminate()
            assert process.wait(30) == 0


def check_trace(receiver: Receiver, url: str) -> None:
    httpx.post(
        f"{url}/retrieve",
        json={"state": "⊢ SECRETGOAL", "k": 3},
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
        timeout=60,
    ).raise_for_status()
    mine = bytes.fromhex(TRACE)
    wait_for(
        lambda: {"POST /retrieve", "batch"} <= {s.name for _, s in receiver.spans if s.trace_id == mine}, "the trace"
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
