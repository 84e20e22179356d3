"""`make bench-start`: time to ready, and memory (PSS) of a first and a second API process, artifacts present.

    PREMISES=382212   premises in the corpus

PSS counts a page that n processes share as 1/n of it in each, so the second process's figure is what it adds and what
it takes over from the first; the sum of both, less the first alone, is what it adds.
"""

import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import psutil
from rich.console import Console

from benchmarks.report import print_machine, table
from benchmarks.synthetic import TextVectors, real_bases, write_data, write_model
from shared.redis_server import free_port
from shared.settings import Settings
from tests.servers import redis_server, running, wait_until_ready


def pss_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


def main() -> None:
    console = Console(width=110)
    count = int(os.environ.get("PREMISES", "382212"))
    print_machine(console, "faiss-cpu", "fastapi")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        directory = Path(temporary)
        bases = real_bases()
        np.save(directory / "bases.npy", bases)
        premises = write_data(
            directory / "data", count, TextVectors(bases), Settings.model_validate({"model_name": "synthetic"}), None
        )
        write_model(directory / "model")
        queue = stack.enter_context(redis_server(directory))
        cache = stack.enter_context(redis_server(directory, cache=True))
        log = directory / "log"
        env = {
            **os.environ, "REDIS_URL": queue.url, "CACHE_REDIS_URL": cache.url, "HOST": "127.0.0.1",
            "DATA_REPO": str(directory / "data"), "DATA_DIR": str(directory / "var"), "LOG_LEVEL": "WARNING",
            "MODEL_ID": str(directory / "model"), "MODEL_NAME": "synthetic",
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        }  # fmt: skip
        worker = [sys.executable, "-m", "benchmarks.synthetic", str(directory / "bases.npy")]
        stack.enter_context(running(worker, env, log))

        def start() -> tuple[float, int]:
            port = free_port()
            begun = time.perf_counter()
            process = stack.enter_context(running([sys.executable, "-P", "-m", "api"], {**env, "PORT": str(port)}, log))
            wait_until_ready(f"http://127.0.0.1:{port}", process, log, 600)
            ready = time.perf_counter() - begun
            for i in range(20):
                body = {"state": f"warm {i}", "k": 16}
                httpx.post(f"http://127.0.0.1:{port}/retrieve", json=body, timeout=60).raise_for_status()
            return ready, process.pid

        building, builder = start()
        psutil.Process(builder).terminate()
        psutil.wait_procs([psutil.Process(builder)], timeout=60)
        first_ready, first = start()
        alone = pss_mb(first)
        second_ready, second = start()
        together = pss_mb(first) + pss_mb(second)
        lines = [
            ("first start, index built", building, ""),
            ("first process, index there", first_ready, alone),
            ("second process", second_ready, together - alone),
        ]
        console.print(f"{premises} premises x {bases.shape[1]}")
        console.print(table("Start of an API process", ("", "ready after s", "MB (PSS) it adds"), lines))


if __name__ == "__main__":
    main()
