"""`make bench-start`: time to ready, and memory (PSS) of a first and a second API process, artifacts present.

    PREMISES=382212   premises in the corpus

PSS counts a page that n processes share as 1/n of it in each, so the second process's figure is what it adds and what
it takes over from the first; the sum of both, less the first alone, is what it adds.
"""

import os
import time
from contextlib import ExitStack

import httpx
import psutil
from rich.console import Console

from benchmarks.synthetic import DIMENSION, synthetic_system
from tests.support.report import print_machine, table


def pss_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


def main() -> None:
    console = Console(width=110)
    count = int(os.environ.get("PREMISES", "382212"))
    print_machine(console, "faiss-cpu", "fastapi")
    with synthetic_system(count) as system, ExitStack() as stack:

        def start() -> tuple[float, int]:
            begun = time.perf_counter()
            url, pid = stack.enter_context(system.api())
            ready = time.perf_counter() - begun
            for i in range(20):
                httpx.post(f"{url}/retrieve", json={"state": f"warm {i}", "k": 16}, timeout=60).raise_for_status()
            return ready, pid

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
        console.print(f"{system.premises} premises x {DIMENSION}")
        console.print(table("Start of an API process", ("", "ready after s", "MB (PSS) it adds"), lines))


if __name__ == "__main__":
    main()
