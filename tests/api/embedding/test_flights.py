"""Nothing is embedded twice, whoever asks for it and wherever: counted by the workers themselves."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from shared.commands.redis_server import free_port
from tests.support.servers import redis_server, role_env, running, wait_for, wait_until_ready

CLIENTS = 20
NEW = [{"name": f"New.t{i}", "decl": f"theorem New.t{i} : {i} = {i}"} for i in range(2_048)]


def embedded_premises(metrics_port: int) -> float:
    text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    wanted = {"lane": "bulk", "outcome": "embedded"}
    return sum(s.value for s in samples if s.name == "premise_worker_texts_total" and s.labels == wanted)


def test_twenty_clients_of_two_apis_and_two_workers_cause_each_embedding_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        queue = stack.enter_context(redis_server(tmp_path))
        cache = stack.enter_context(redis_server(tmp_path, cache=True))
        log = tmp_path / "processes.log"
        env = role_env(tmp_path, REDIS_URL=queue.url, CACHE_REDIS_URL=cache.url, HOST="127.0.0.1", TORCH_THREADS="1",
                       REQUEST_TIMEOUT="300")  # fmt: skip
        metrics_ports = [free_port(), free_port()]
        for port in metrics_ports:
            command = [sys.executable, "-P", "-m", "worker"]
            stack.enter_context(running(command, {**env, "WORKER_METRICS_PORT": str(port)}, log))
        urls = []
        for _ in range(2):
            port = free_port()
            api = stack.enter_context(running([sys.executable, "-P", "-m", "api"], {**env, "PORT": str(port)}, log))
            urls.append(f"http://127.0.0.1:{port}")
            wait_until_ready(urls[-1], api, log)
        with queue.client() as client:
            wait_for(lambda: sum(client.zcard(key) for key in client.scan_iter("workers:*")) == 2, "both workers", 60)
        before = [embedded_premises(port) for port in metrics_ports]

        def ask(i: int) -> list[dict[str, object]]:
            body = {"state": f"⊢ {i} = {i}", "k": 5, "imported_modules": [], "new_premises": NEW}
            answer = httpx.post(f"{urls[i % 2]}/retrieve", json=body, timeout=400)
            assert answer.status_code == 200, answer.text
            hits: list[dict[str, object]] = answer.json()
            return hits

        with ThreadPoolExecutor(CLIENTS) as clients:
            answers = list(clients.map(ask, range(CLIENTS)))
        assert all(len(answer) == 5 for answer in answers)
        shares = [embedded_premises(port) - was for port, was in zip(metrics_ports, before, strict=True)]
    assert sum(shares) == len(NEW)
    assert min(shares) > 0
