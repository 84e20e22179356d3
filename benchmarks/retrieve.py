"""`make bench-retrieve`: warm `/retrieve` over HTTP, everything cached, all modules and 2,048 new premises.

    PREMISES=100000   premises in the corpus
    SAMPLE=PATH       a premises.tar.gz whose declarations are used first

The loop lag is how late the server's event loop wakes a task while it serves those requests, from its own metrics: the
least bucket bound that every sample (one in 20 ms) was under.

The peer is the old server's algorithm for the same request, timed here in the same run on the same vectors: names of
accessible premises into a set, the set into a list of ids, `IDSelectorArray`, flat search, then the new premises.
"""

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import faiss
import httpx
import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from api.corpus.archive import read_archive
from api.corpus.reader import ReadCorpus, read_corpus
from benchmarks.synthetic import TextVectors, synthetic_system
from shared.vectors import Vectors
from tests.support.report import p50_p99, print_machine, table

NEW_PREMISES = 2_048
REQUESTS = 320
CLIENTS = (1, 16)
STATE = "a b : Nat\n⊢ a + b = b + a"


def request_body(corpus: ReadCorpus, module_system: bool) -> bytes:
    new = [
        {"name": f"New.t{i}", "decl": f"theorem New.t{i} (n : Nat) : n + {i} = {i} + n"} for i in range(NEW_PREMISES)
    ]
    return orjson.dumps(
        {
            "state": STATE,
            "k": 16,
            "imported_modules": list(range(len(corpus.module_names))),
            "new_premises": new,
            "caller_in_module_system": module_system,
        }
    )


def measure(url: str, body: bytes, clients: int) -> tuple[float, float, float, float]:
    """p50 ms, p99 ms, requests per second with `clients` asking at once, longest loop lag in ms (a bucket's bound)."""
    address = urlsplit(url).netloc

    def keep_asking(times: int) -> list[float]:
        # The standard library's client, because a richer one would take a share of the cores that shows.
        connection = HTTPConnection(address, timeout=120)
        took = []
        for _ in range(times):
            start = time.perf_counter()
            connection.request("POST", "/retrieve", body)
            answer = connection.getresponse()
            answer.read()
            took.append(1000 * (time.perf_counter() - start))
            assert answer.status == 200
        connection.close()
        return took

    keep_asking(2)  # the first one embeds
    before = loop_lags(url)
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        took = [ms for part in threads.map(keep_asking, [REQUESTS // clients] * clients) for ms in part]
    rate = len(took) / (time.perf_counter() - start)
    lags = {bound: count - before[bound] for bound, count in loop_lags(url).items()}
    return (*p50_p99(took), rate, 1000 * min(bound for bound, count in lags.items() if count == lags[math.inf]))


def loop_lags(url: str) -> dict[float, float]:
    """Samples so far by the bucket's upper bound in seconds, cumulative."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    samples = next(family for family in families if family.name == "premise_event_loop_lag_seconds").samples
    return {float(s.labels["le"]): s.value for s in samples if s.name.endswith("_bucket")}


def old_server(corpus: ReadCorpus, rows: Vectors, vectors: TextVectors, body: bytes) -> float:
    """Median ms of the old server's algorithm; JSON, HTTP and embedding are not even counted."""
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    request = orjson.loads(body)
    new_rows = np.stack([vectors(premise["decl"]) for premise in request["new_premises"]])
    names_by_module = {
        name: corpus.names[start:stop]
        for name, start, stop in zip(corpus.module_names, corpus.module_start, corpus.module_stop, strict=True)
    }
    hidden = {corpus.names[i] for i in np.flatnonzero(corpus.needs_import_all)}
    state = vectors(STATE).reshape(1, -1)
    took = []
    for _ in range(9):
        start = time.perf_counter()
        accessible: set[str] = set()
        for module in request["imported_modules"]:
            accessible.update(names_by_module[corpus.module_names[module]])
        if request["caller_in_module_system"]:
            accessible = {name for name in accessible if name not in hidden}
        accessible -= {premise["name"] for premise in request["new_premises"]}
        ids = np.array([corpus.premise_ids[name] for name in accessible], np.int64)
        index.search(state, request["k"], params=faiss.SearchParameters(sel=faiss.IDSelectorArray(ids)))
        new_rows @ state[0]
        took.append(1000 * (time.perf_counter() - start))
    return float(np.median(took))


def main() -> None:
    console = Console(width=110)
    count = int(os.environ.get("PREMISES", "100000"))
    sample = Path(os.environ["SAMPLE"]) if os.environ.get("SAMPLE") else None
    print_machine(console, "faiss-cpu", "fastapi", "uvicorn", "redis")
    with synthetic_system(count, sample) as system, system.api() as (url, _):
        corpus = read_corpus(read_archive(system.directory / "data" / "premises.tar.gz"))
        rows = np.load(next((system.directory / "data" / "embeddings").iterdir()))
        lines = []
        for module_system in (False, True):
            body = request_body(corpus, module_system)
            old = old_server(corpus, rows, system.vectors, body)
            for clients in CLIENTS:
                p50, p99, rate, lag = measure(url, body, clients)
                lines.append(
                    (module_system, clients, p50, p99, rate, lag, old, old / p50 if clients == 1 else rate * old / 1000)
                )
    console.print(f"{system.premises} premises x {rows.shape[1]}, {NEW_PREMISES} cached new premises, k = 16")
    columns = ("module system", "clients", "p50 ms", "p99 ms", "requests/s", "loop lag ms", "old algorithm ms", "ratio")
    console.print(table("Warm /retrieve", columns, lines))


if __name__ == "__main__":
    main()
