"""`make bench-retrieve`: warm `/retrieve` over HTTP, everything cached, all modules and 2,048 new premises.

    PREMISES=100000   premises in the corpus
    SAMPLE=PATH       a premises.tar.gz whose declarations are used first

The peer is the old server's algorithm for the same request, timed here in the same run on the same vectors: names of
accessible premises into a set, the set into a list of ids, `IDSelectorArray`, flat search, then the new premises.
"""

import asyncio
import os
import time
from pathlib import Path

import faiss
import httpx
import numpy as np
import orjson
from rich.console import Console

from api.corpus import Corpus, build_corpus
from api.data_repository import read_archive
from benchmarks.report import p50_p99, print_machine, table
from benchmarks.synthetic import TextVectors, synthetic_system
from shared.reply import Vectors

NEW_PREMISES = 2_048
REQUESTS = 100
CLIENTS = (1, 16)
STATE = "a b : Nat\n⊢ a + b = b + a"


def request_body(corpus: Corpus, module_system: bool) -> bytes:
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


async def measure(url: str, body: bytes, clients: int) -> tuple[float, float, float]:
    """p50 ms, p99 ms, requests per second with `clients` asking at once."""
    took: list[float] = []
    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=clients)) as client:

        async def ask() -> None:
            start = time.perf_counter()
            answer = await client.post(f"{url}/retrieve", content=body)
            took.append(1000 * (time.perf_counter() - start))
            answer.raise_for_status()

        async def keep_asking() -> None:
            for _ in range(REQUESTS // clients):
                await ask()

        await ask()  # the first one embeds
        await ask()
        took.clear()
        start = time.perf_counter()
        await asyncio.gather(*(keep_asking() for _ in range(clients)))
        rate = len(took) / (time.perf_counter() - start)
    return (*p50_p99(took), rate)


def old_server(corpus: Corpus, rows: Vectors, vectors: TextVectors, body: bytes) -> float:
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
        corpus = build_corpus(read_archive(system.directory / "data" / "premises.tar.gz"))
        rows = np.load(next((system.directory / "data" / "embeddings").iterdir()))
        lines = []
        for module_system in (False, True):
            body = request_body(corpus, module_system)
            old = old_server(corpus, rows, system.vectors, body)
            for clients in CLIENTS:
                p50, p99, rate = asyncio.run(measure(url, body, clients))
                lines.append((module_system, clients, p50, p99, rate, old, old / p50 if clients == 1 else ""))
    console.print(f"{system.premises} premises x {rows.shape[1]}, {NEW_PREMISES} cached new premises, k = 16")
    columns = ("module system", "clients", "p50 ms", "p99 ms", "requests/s", "old algorithm ms", "ratio")
    console.print(table("Warm /retrieve", columns, lines))


if __name__ == "__main__":
    main()
