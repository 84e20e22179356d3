"""`make bench-overload`: what warm requests and single states take while 200 clients push cold work. Devices simulated.

    CLIENTS=200   cold clients; each posts 2,048 premises that nobody has seen, and again when it was answered
    SECONDS=30    for so long

The first requests come within a second: 18 MB of JSON, on the cores that also make it. A refused client waits as long
as `Retry-After` says, as it should. The worker's model sleeps a fixed time a token
(`benchmarks.simulated_device`); an answer to a single state therefore contains the time of one batch of bulk work that
is in the model when it comes, which the last line of the table names.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson
from rich.console import Console

from shared.commands.redis_server import free_port
from tests.support.report import print_machine, table
from tests.support.repository import ROOT
from tests.support.servers import redis_server, role_env, running, wait_until_ready

PREMISES = 2_048
TOKENS_PER_S = 50_000
BATCH_TOKENS = 2_048
PAUSE_S = 0.05
PLACE = b"987654321"
"""In the template of a cold request; replaced by a number that makes its texts new."""
Samples = dict[str, list[float]]
"""Milliseconds by kind of request and status."""


class Client:
    """One connection, opened again when it breaks, which is counted as a status of its own."""

    def __init__(self, url: str, took: Samples) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=120)
        self._took = took

    def close(self) -> None:
        self._connection.close()

    def ask(self, kind: str, body: bytes) -> int:
        """Seconds that the server asks to wait."""
        start = time.perf_counter()
        try:
            self._connection.request("POST", "/retrieve", body)
            answer = self._connection.getresponse()
            answer.read()
            status, wait_s = str(answer.status), int(answer.getheader("Retry-After", "0"))
        except (HTTPException, OSError) as error:
            self._connection.close()
            status, wait_s = type(error).__name__, 1
        self._took[f"{kind}: {status}"].append(1000 * (time.perf_counter() - start))
        return wait_s


def light(url: str, when: str, seconds: float, took: Samples) -> None:
    """A warm request and a new state in turn, one client."""
    client, end = Client(url, took), time.monotonic() + seconds
    for i in itertools.count():
        if time.monotonic() > end:
            return
        client.ask(f"warm request, {when}", orjson.dumps({"state": "warm", "k": 16}))
        time.sleep(PAUSE_S)
        client.ask(f"new state, {when}", orjson.dumps({"state": f"{when} {i}", "k": 16}))
        time.sleep(PAUSE_S)


def cold(url: str, clients: int, seconds: float) -> Samples:
    """Requests of 2,048 premises that nobody has seen, until the time is up."""
    new = [{"name": f"n{j}", "decl": f"theorem n{j} : {PLACE.decode()} + {j} = {j}"} for j in range(PREMISES)]
    template = orjson.dumps({"state": "warm", "k": 16, "new_premises": new})
    took: Samples = defaultdict(list)
    numbers, end = itertools.count(10**8), time.monotonic() + seconds

    def keep_asking(i: int) -> None:
        time.sleep(i / clients)  # two hundred people do not press a key in the same millisecond
        client, when = Client(url, took), "first"
        while time.monotonic() < end:
            wait_s = client.ask(f"cold request, {when}", template.replace(PLACE, str(next(numbers)).encode()))
            client.close()  # the server would, before the next request
            when = "again"
            time.sleep(min(wait_s, max(0.0, end - time.monotonic())))

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(keep_asking, range(clients)))
    return took


def main() -> None:
    console = Console(width=110)
    print_machine(console, "fastapi", "uvicorn", "arq", "redis")
    clients, seconds = int(os.environ.get("CLIENTS", "200")), float(os.environ.get("SECONDS", "30"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        directory = Path(folder)
        queue = stack.enter_context(redis_server(directory))
        cache = stack.enter_context(redis_server(directory, cache=True))
        port, log = free_port(), directory / "processes.log"
        env = role_env(
            directory, REDIS_URL=queue.url, CACHE_REDIS_URL=cache.url, PORT=str(port), HOST="127.0.0.1",
            LOG_LEVEL="ERROR", MAX_BATCH_TOKENS=str(BATCH_TOKENS), TOKENS_PER_S=str(TOKENS_PER_S),
            PYTHONPATH=str(ROOT),
        )  # fmt: skip
        stack.enter_context(running([sys.executable, "-m", "benchmarks.simulated_device"], env, log))
        api = stack.enter_context(running([sys.executable, "-P", "-m", "api"], env, log))
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, api, log)
        took: Samples = defaultdict(list)
        Client(url, defaultdict(list)).ask("warm up", orjson.dumps({"state": "warm", "k": 16}))
        light(url, "alone", seconds / 3, took)
        # In a process of their own: they would disturb the clock of the light client.
        command = [sys.executable, "-m", "benchmarks.overload", "cold", url, str(clients), str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as others:
            light(url, "under load", seconds, took)
            out, _ = others.communicate()
        took.update(json.loads(out))
    lines = [
        (kind, len(took), *(float(np.percentile(took, share)) for share in (50, 99, 100)))
        for kind, took in sorted(took.items())
    ]
    console.print(f"{clients} cold clients of {PREMISES} new premises each, {seconds:g} s; one batch in the model "
                  f"takes {1000 * BATCH_TOKENS / TOKENS_PER_S:.0f} ms")  # fmt: skip
    console.print(table("Under overload", ("request: status", "answers", "p50 ms", "p99 ms", "max ms"), lines))
    statuses = {kind.rpartition(": ")[2] for kind in took}
    sys.exit(0 if statuses <= {"200", "429", "504"} else 1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["cold", url, clients, seconds]:
            print(json.dumps(cold(url, int(clients), float(seconds))))
        case _:
            main()
